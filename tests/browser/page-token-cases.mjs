// The live page of a server with keys.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { Server } from '../../clients/js/test/server.js';
import { found, hasRow, until } from './page-cases.mjs';

const SECRET = 'a secret of the tests, 32 bytes or more';

/** A token for an hour, or for so many seconds. */
const token = (names, seconds = 3600) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const message = `${part({ alg: 'HS256' })}.${part({ exp, datastream: names })}`;
  return `${message}.${createHmac('sha256', SECRET).update(message).digest('base64url')}`;
};

/** Runs a case on a server with keys. */
const guarded = (run) => async (all) => {
  const flags = ['--auth-secret', SECRET, '--auth-leeway', '0s', '--heartbeat', '1s', '--wt-enabled', '--wt-addr', '[::]:0'];
  const server = await Server.start(all.database, flags);
  await all.context.grantPermissions(['clipboard-read', 'clipboard-write']);
  try {
    await run({ ...all, server });
  } finally {
    await server.stop();
  }
};

const banner = (page) => page.locator('#banner').innerText();

const says = (page, text) =>
  page.waitForFunction((text) => {
    const banner = document.getElementById('banner');
    return !banner.hidden && banner.innerText.includes(text);
  }, text, { polling: 20 });

const enter = async (page, text) => {
  await page.fill('#token', text);
  await page.keyboard.press('Enter');
};

const isLive = (page) => page.waitForSelector('#state[data-state=connected]');

/** What a button of the page copies. */
const copied = async (page, button) => {
  await page.click(button);
  await page.waitForFunction((button) => document.querySelector(button).textContent === 'Copied', button);
  return page.evaluate(() => navigator.clipboard.readText());
};

/** Everything in which the page could keep a token. */
const kept = (page) =>
  page.evaluate(async () => JSON.stringify([
    location.href, { ...localStorage }, { ...sessionStorage }, document.cookie, history.state, window.name,
    await indexedDB.databases(), await caches.keys(),
    [...document.querySelectorAll('a')].map(({ href }) => href), document.documentElement.outerHTML,
    [...document.querySelectorAll('input')].map(({ value }) => value),
    performance.getEntries().map(({ name }) => name),
  ]));

const over = (transport, connected) =>
  guarded(async ({ page, server, database }) => {
    const urls = [];
    page.on('request', (request) => urls.push(request.url()));
    page.on('websocket', (socket) => urls.push(socket.url()));
    await page.goto(`${server.url}/?game=crash`);
    if (transport) await page.evaluate((transport) => document.querySelector(`[value=${transport}]`).click(), transport);
    await says(page, 'The server wants a token');
    // Also where a browser hides the answer from the page.
    await says(page, 'a token is needed');
    assert.equal(await page.locator('#state').innerText(), 'Closed', 'nothing is tried again without a token');
    assert.doesNotMatch(await banner(page), /status \d/);
    assert.deepEqual(await found(page), []);

    const [before] = await database.rounds(1, 'crash', '{"point": "5.55"}');
    const secret = token(['game:crash']);
    await enter(page, secret);
    await isLive(page);
    assert.equal(await page.locator('#state').innerText(), `Connected by ${connected}`);
    await page.waitForSelector('#banner', { state: 'hidden' });
    await hasRow(page, before);
    const [id] = await database.rounds(1, 'crash', '{"point": "6.66"}');
    await hasRow(page, id);
    await page.click('#compare');
    await page.click('#debugger summary');
    const command = await copied(page, '#copy-curl');
    assert.match(command, /-H "Authorization: Bearer \$TOKEN"$/);
    await page.click('#rounds a >> nth=0');
    await page.waitForSelector('#whole[open]');
    const link = await copied(page, '#copy-link');
    assert.equal(link, `${server.url}/?game=crash&round=${id}`);
    const since = await copied(page, '#copy-since');
    assert.match(since, new RegExp(`Last-Event-ID: ${id}' -H "Authorization: Bearer \\$TOKEN"$`));
    const everything = [command, link, since, ...urls, await kept(page)].join('\n');
    for (const part of secret.split('.').slice(1)) assert.ok(!everything.includes(part), 'the token is somewhere');
    // Nor does the next page know it.
    await page.reload();
    await says(page, 'The server wants a token');
  });

export const cases = {
  'page: a server with keys gets the token from the field alone, by the best transport': over('', 'WebTransport'),
  'page: a server with keys gets the token from the field alone, by WebTransport': over('webtransport', 'WebTransport'),
  'page: a server with keys gets the token from the field alone, by WebSocket': over('websocket', 'WebSocket'),
  'page: a server with keys gets the token from the field alone, by SSE': over('sse', 'SSE'),

  'page: the field is there until a token is good, whatever is put into it': guarded(async ({ page, server }) => {
    await page.goto(`${server.url}/?game=crash`);
    await says(page, 'a token is needed');
    await enter(page, 'nonsense');
    await says(page, 'the token cannot be read');
    // The server takes 8 KiB.
    await enter(page, 'x'.repeat(20_000));
    await says(page, 'The server answers 431');
    await enter(page, 'two words');
    assert.equal(await page.locator('#token').inputValue(), 'two words', 'such a header could not be sent');
    await enter(page, token(['game:double']));
    await says(page, 'The server does not allow this selection: the token does not allow this selection');
    await enter(page, `Bearer ${token(['game:crash'])}\n`);
    await isLive(page);
    // The choices are what the token opens; anything else is refused and can be left again.
    await page.waitForFunction(() => {
      const choices = [...document.querySelectorAll('#selection option')].map(({ value }) => value);
      return choices.includes('game=crash') && !choices.includes('game=double');
    });
    await page.selectOption('#selection', '');
    await says(page, 'The server does not allow this selection: the token does not allow this selection');
    await page.selectOption('#selection', 'game=crash');
    await isLive(page);
    await page.waitForSelector('#banner', { state: 'hidden' });
  }),

  'page: a token that runs out is asked for again': guarded(async ({ page, server, database }) => {
    await page.goto(`${server.url}/?game=crash`);
    await says(page, 'a token is needed');
    await enter(page, token(['game:crash'], 3));
    await isLive(page);
    await says(page, 'the token has expired');
    await page.waitForSelector('#token');
    const [meanwhile] = await database.rounds(1, 'crash');
    await enter(page, token(['game:crash']));
    await isLive(page);
    await hasRow(page, meanwhile);
  }),

  'page: a link to a round of a server with keys shows it once there is a token': guarded(async ({ page, server, database }) => {
    const [id] = await database.rounds(1, 'crash', '{"point": "44.44"}');
    await page.goto(`${server.url}/?game=crash&round=${id}`);
    await says(page, 'a token is needed');
    await page.waitForSelector('#whole', { state: 'hidden' });
    await enter(page, token(['game:crash']));
    await page.waitForFunction(() => /44\.44/.test(document.getElementById('whole-extras').textContent));
    assert.equal(page.url(), `${server.url}/?game=crash&round=${id}`);
    await page.click('#close-whole');
    await page.waitForURL(`${server.url}/?game=crash`);
  }),

  'page: a token that another part of the site renews is used by the button': guarded(async ({ page, context, database, server: guardedServer }) => {
    const server = await Server.start(database, ['--auth-secret', SECRET, '--auth-cookie', 'pass', '--allowed-origins', guardedServer.url]);
    try {
      await page.goto(`${server.url}/?game=crash`);
      await says(page, 'a token is needed');
      await context.addCookies([{ name: 'pass', value: token(['*']), url: server.url }]);
      await page.click('#retry');
      await isLive(page);
      await until('four games', async () => (await page.locator('#selection option').count()) >= 4);
    } finally {
      await server.stop();
    }
  }),
};
