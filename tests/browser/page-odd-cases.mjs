// The live page with names, extras, ids and addresses that hardly a game has.

import assert from 'node:assert/strict';
import { Server } from '../../clients/js/test/server.js';
import { found, hasRow, listed, visit } from './page-cases.mjs';

const PHONE = { width: 320, height: 640 };

/** Slugs and names. */
const NAMES = [
  ['.', 'One dot'], ['..', 'Two dots'], ['a b/c?d#e&f=g%20', 'Signs of a URL'], ['<b>"\'`', '<i>Markup</i>'], ['🎲', '🎲 Dice 👩‍👩‍👧'],
  ['משחק', 'משחק'], ['override', '\u202Eoverride'], ['l'.repeat(2000), 'n'.repeat(5000)], ['__proto__', 'constructor'],
];

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

const add = (database, slug, name) =>
  database.sql(`insert into public.games (slug, name, type) values (${quoted(slug)}, ${quoted(name)}, 'odd')`);

const play = async (database, slug, extras = '{"point": "1.50"}') => (await database.rounds(1, slug.replaceAll("'", "''"), extras))[0];

/** Removes what a case has added: the other cases count games. */
const removed = (run) => async (all) => {
  try {
    await run(all);
  } finally {
    await all.database.sql(`delete from public.rounds where game_id in (select id from public.games where type = 'odd')`);
    await all.database.sql(`delete from public.games where type = 'odd'`);
  }
};

const isWide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

export const cases = {
  'page: names of any length and script have their card, their row and their address': removed(async (all) => {
    const { page, database, server } = all;
    const ids = [];
    for (const [slug, name] of NAMES) {
      await add(database, slug, name);
      ids.push(await play(database, slug));
    }
    const complaints = await visit(all, '/?type=odd');
    await page.waitForFunction((count) => document.querySelectorAll('.game').length === count, NAMES.length);
    for (const id of ids) await hasRow(page, id);
    assert.deepEqual(await page.locator('.game .only').allTextContents(), NAMES.map(([, name]) => name));
    assert.equal(await page.locator('main b, main i').count(), 0);
    assert.ok((await page.evaluate(() => Math.max(...[...document.querySelectorAll('.game')].map((card) => card.offsetHeight)))) < 300);
    assert.ok((await isWide(page)) <= 0);
    await page.setViewportSize(PHONE);
    assert.ok((await isWide(page)) <= 0, 'on a phone');
    assert.deepEqual(await found(page), []);
    for (const [index, [slug]] of NAMES.entries()) {
      await page.goto(`${server.url}/?${new URLSearchParams([['game', slug]])}`);
      await hasRow(page, ids[index]);
      assert.deepEqual(await listed(page), [ids[index]]);
      assert.equal(await page.locator('.game').count(), 1);
    }
    assert.deepEqual(complaints, []);
  }),

  'page: text from right to left, and a cut between surrogates, disturb nothing': removed(async (all) => {
    const { page, database } = all;
    for (const slug of ['right', 'emoji', 'deep']) await add(database, slug, slug);
    await visit(all, '/?type=odd');
    await play(database, 'right', JSON.stringify({ first: '\u202Eabc שלום', second: 'plain' }));
    await play(database, 'emoji', JSON.stringify({ dice: '🎲'.repeat(100), more: `x${'🎲'.repeat(100)}` }));
    const last = await play(database, 'deep', `[${'['.repeat(200)}${']'.repeat(200)}]`);
    await hasRow(page, last);
    const places = await page.locator('#rounds tr', { hasText: 'second:' }).locator('bdi')
      .evaluateAll((all) => all.map((one) => one.getBoundingClientRect().left));
    assert.equal(places.length, 4);
    assert.deepEqual(places, places.toSorted((a, b) => a - b), 'keys before their values');
    const text = await page.locator('main').innerText();
    assert.ok(text.isWellFormed(), 'no half of a surrogate pair');
    // What is cut can be seen whole.
    await page.locator('#rounds tr', { hasText: '[[[' }).locator('.whole').click();
    await page.waitForSelector('#whole[open]');
  }),

  'page: an address with empty names is one without them': async (all) => {
    const { page, database } = all;
    const [id] = await database.rounds();
    for (const query of ['?game=', '?type=', '?game=&type=&round=', '?round=']) {
      const complaints = await visit(all, `/${query}`);
      await hasRow(page, id);
      assert.equal(await page.locator('#selection').inputValue(), '', query);
      assert.equal(await page.locator('#whole[open]').count(), 0, query);
      assert.deepEqual(complaints, [], query);
    }
    await visit(all, '/?game=crash&game=');
    assert.equal(await page.locator('#selection').inputValue(), 'game=crash');
  },

  'page: round 0 has its link': async (all) => {
    const { page, server, database } = all;
    await database.sql(`insert into public.rounds (id, game_id, finished_at, extras) overriding system value
      select 0, id, clock_timestamp(), '{"point": "55.55"}' from public.games where slug = 'crash'`);
    await visit(all, '/?game=crash&round=0');
    await page.waitForFunction(() => /55\.55/.test(document.getElementById('whole-extras').textContent));
    await page.goto(`${server.url}/?game=crash`);
    await hasRow(page, 0);
  },

  'page: a full server says so by each transport, also where the browser hides it': async ({ page, context, database }) => {
    const server = await Server.start(database, ['--max-connections', '1']);
    const holding = new AbortController();
    try {
      await fetch(`${server.url}/sse`, { signal: holding.signal });
      await page.goto(`${server.url}/`);
      for (const transport of ['websocket', 'sse']) {
        await page.evaluate((transport) => document.querySelector(`[value=${transport}]`).click(), transport);
        await page.waitForFunction(() => /takes no connection now/.test(document.getElementById('banner').innerText));
      }
      holding.abort();
      // The page may have come back by itself, and then there is no button.
      await page.evaluate(() => document.getElementById('retry').click());
      await page.waitForSelector('#state[data-state=connected]');
      await page.waitForSelector('#banner', { state: 'hidden' });
    } finally {
      holding.abort();
      await server.stop();
    }
  },
};
