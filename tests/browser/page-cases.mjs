// The live page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Server } from '../../clients/js/test/server.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = { light: [1100, 1000], dark: [1100, 1000], phone: [375, 760], narrow: [320, 640] };
/** What a page shows of a server with rounds, it shows that soon; the machine of the tests is busy. */
const FIRST_SIGHT_MS = 4000;

/** Opens the page; whatever it complains of, or fetches from elsewhere, fails the case. */
export const visit = async ({ page, server }, path = '/') => {
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/ERR_CONNECTION|ERR_INTERNET|QUIC/.test(message.text())) complaints.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url)) complaints.push(`fetched ${request.url()}`);
  });
  await page.goto(`${server.url}${path}`);
  await page.waitForSelector('#state[data-state=connected]');
  return complaints;
};

export const until = async (what, condition) => {
  const end = Date.now() + 20_000;
  while (!(await condition())) if (Date.now() > end) throw new Error(`not seen: ${what}`);
};

export const hasRow = (page, id, timeout = 20_000) =>
  page.waitForFunction((id) => [...document.querySelectorAll('#rounds td:first-child')].some((cell) => cell.textContent === `${id}`),
    id, { timeout, polling: 20 });

const shownOf = (page, ids) =>
  page.evaluate((ids) => [...document.querySelectorAll('#rounds td:first-child')]
    .map((cell) => Number(cell.textContent)).filter((id) => ids.includes(id)), ids);

/** What axe finds that is more than minor. */
export const found = async (page) => {
  // Axe is brought in past the policy, which forbids it to the page.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  return violations.filter(({ impact }) => impact !== 'minor')
    .map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html).join(' ')}`);
};

const isWide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

export const listed = (page) =>
  page.evaluate(() => [...document.querySelectorAll('#rounds td:first-child')].map((cell) => Number(cell.textContent)));

/** Games of other shapes than the page knows. */
const foreign = async (database, name, extras) => {
  await database.sql(`insert into public.games (slug, name, type) values ('${name}', '${name}', 'foreign') on conflict do nothing`);
  return (await database.rounds(1, name, JSON.stringify(extras)))[0];
};

/** Whether the plot has a dot of each of these transports, by its color. */
const dots = (page, transports) =>
  page.evaluate((transports) => {
    const colors = getComputedStyle(document.documentElement);
    const [context, one] = [document.querySelector('#plot canvas'), document.createElement('canvas')]
      .map((canvas) => canvas.getContext('2d', { willReadFrequently: true }));
    const { data } = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
    const pixels = new Set(new Uint32Array(data.buffer));
    return transports.every((name) => {
      one.fillStyle = colors.getPropertyValue(`--${name}`);
      one.fillRect(0, 0, 1, 1);
      return pixels.has(new Uint32Array(one.getImageData(0, 0, 1, 1).data.buffer)[0]);
    });
  }, transports);

const play = async (database) => [
  ...(await database.rounds(1, 'crash', '{"point": "11.72"}')),
  ...(await database.rounds(1, 'double', '{"color": "red", "number": 5}')),
  ...(await database.rounds(1, 'slot', '{"reels": ["cherry", "lemon", "orange"], "multiplier": "2.00"}')),
  ...(await database.rounds(1, 'wall-street', '{"trending": "up"}')),
];

export const cases = {
  'page: at first sight each card has its latest round, the list fifty, the plot their times': async (all) => {
    const { page, database } = all;
    const [slot] = await database.rounds(1, 'slot', '{"reels": ["seven", "seven", "seven"], "multiplier": "500.00"}');
    await database.rounds(1, 'double', '{"color": "red", "number": 7}');
    await database.rounds(1, 'wall-street', '{"trending": "down"}');
    const ids = await database.together(60, 'crash', '{"point": "7.77"}');
    await until('the last round', async () => (await (await fetch(`${all.server.url}/rounds/crash/latest`)).json()).round_id === ids.at(-1));
    const complaints = await visit(all);
    const start = Date.now();
    await page.waitForFunction(() => document.querySelectorAll('#rounds tr').length === 50);
    await page.waitForFunction(() => /500\.00×/.test(document.querySelector('#game-slot .latest').textContent));
    assert.match(await page.locator('#game-double .latest').innerText(), /7\s+red/);
    assert.match(await page.locator('#game-wall-street .latest').innerText(), /down/);
    assert.match(await page.locator('#game-crash .latest').innerText(), /7\.77×/);
    assert.ok(Date.now() - start < FIRST_SIGHT_MS, `${Date.now() - start} ms`);
    assert.deepEqual(await listed(page), ids.slice(-50).reverse());
    assert.ok(!(await listed(page)).includes(slot), 'the seed of slot is older than the list');
    await until('the times in the plot', () => dots(page, ['before']));
    assert.deepEqual(complaints, []);
  },

  'page: the selection is in the address, and back and forward work': async (all) => {
    const { page, server, database } = all;
    await visit(all, '/?game=double');
    assert.deepEqual(await page.locator('.game').evaluateAll((cards) => cards.map(({ id }) => id)), ['game-double']);
    assert.equal(await page.locator('#selection').inputValue(), 'game=double');
    const [first] = await database.rounds(1, 'double', '{"color": "red", "number": 1}');
    await hasRow(page, first);
    await page.selectOption('#selection', 'type=multiplier');
    await page.waitForURL(`${server.url}/?type=multiplier`);
    await page.waitForFunction(() => document.querySelectorAll('.game').length === 2);
    await page.waitForSelector('#state[data-state=connected]');
    const [double] = await database.rounds(1, 'double', '{"color": "red", "number": 2}');
    const [crash] = await database.rounds(1, 'crash');
    await hasRow(page, crash);
    assert.ok(!(await listed(page)).some((id) => [first, double].includes(id)));
    await page.click('#game-crash .only');
    await page.waitForURL(`${server.url}/?game=crash`);
    await page.goBack();
    await page.waitForFunction(() => document.querySelectorAll('.game').length === 2);
    await page.goBack();
    await page.waitForURL(`${server.url}/?game=double`);
    await hasRow(page, double);
    assert.ok(!(await listed(page)).includes(crash));
    await page.goForward();
    await page.waitForURL(`${server.url}/?type=multiplier`);
    await hasRow(page, crash);
    await page.goto(`${server.url}/?game=double&type=trend`);
    await page.waitForFunction(() => document.querySelectorAll('.game').length === 2);
    const [street] = await database.rounds(1, 'wall-street', '{"trending": "up"}');
    await hasRow(page, street);
    assert.ok((await listed(page)).includes(double) && !(await listed(page)).includes(crash));
  },

  'page: a game that is added appears with its name, and can be chosen without a reload': async (all) => {
    const { page, database } = all;
    await visit(all);
    await database.sql("insert into public.games (slug, name, type) values ('keno', 'Keno of the Night', 'lottery')");
    const [id] = await database.rounds(1, 'keno', '{"drawn": [4, 8, 15]}');
    await hasRow(page, id);
    await page.waitForFunction(() => document.querySelector('#game-keno h3')?.textContent === 'Keno of the Night');
    assert.match(await page.locator('#game-keno .latest').innerText(), /drawn/);
    await page.selectOption('#selection', 'game=keno');
    await page.waitForFunction(() => document.querySelectorAll('.game').length === 1);
    await hasRow(page, id);
    assert.deepEqual(await listed(page), [id]);
  },

  'page: 200 games have their cards, by type, and are searched': async (all) => {
    const { page, database } = all;
    await database.sql(`insert into public.games (slug, name, type) select 'many-' || n, 'Many ' || n, 'kind-' || n % 5 from generate_series(1, 200) n`);
    await database.sql(`insert into public.rounds (game_id, finished_at, extras) select id, clock_timestamp(), '{"point": "1.23"}' from public.games where slug like 'many-%'`);
    try {
      await until('the last round', async () => (await fetch(`${all.server.url}/rounds/many-200/latest`)).ok);
      await visit(all);
      await page.waitForFunction(() => [...document.querySelectorAll('[id^=game-many-] .latest')].filter((card) => /1\.23×/.test(card.textContent)).length === 200);
      assert.ok((await page.locator('.group').count()) >= 5);
      await page.fill('#search', 'many 117');
      await page.waitForFunction(() => document.querySelectorAll('.game:not([hidden])').length === 1);
      assert.match(await page.locator('#found').innerText(), /^1 of /);
      assert.deepEqual(await found(page), []);
    } finally {
      await database.sql(`delete from public.rounds where game_id in (select id from public.games where slug like 'many-%')`);
      await database.sql(`delete from public.games where slug like 'many-%'`);
    }
  },

  'page: extras of any shape and size are shown in bounds, and whole on demand': async (all) => {
    const { page, context, database } = all;
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await visit(all);
    const shapes = {
      text: 'a text that is no object', number: 42.5, nothing: null, list: [1, 'two', { three: 3 }, [4]],
      crashlike: { point: { a: 1 }, color: ['x'], number: {} },
      poker: { winner: { place: 4, name: 'Ann' }, pot: 1234.5, comment: 'w'.repeat(500), [`long_${'n'.repeat(200)}`]: true },
    };
    for (const [name, extras] of Object.entries(shapes)) await foreign(database, name, extras);
    const huge = { text: 'x'.repeat(900_000), list: Array.from({ length: 5000 }, (_, n) => n), last: 'end of it' };
    const last = await foreign(database, 'huge', huge);
    await hasRow(page, last);
    for (const name of [...Object.keys(shapes), 'huge']) await page.waitForSelector(`#game-${name}`);
    const text = async (name) => page.locator(`#game-${name} .latest`).innerText();
    await until('the huge card', async () => /Whole JSON/.test(await text('huge')));
    assert.match(await text('text'), /a text that is no object/);
    assert.match(await text('number'), /42\.5/);
    assert.match(await text('nothing'), /null/);
    assert.match(await text('list'), /two/);
    assert.match(await text('crashlike'), /\{a: 1\}/);
    assert.match(await text('poker'), /1234\.5/);
    assert.doesNotMatch(await page.locator('main').innerText(), /\[object/);
    const tall = await page.evaluate(() => document.documentElement.scrollHeight);
    assert.ok(tall < 10_000, `${tall} pixels tall`);
    for (const [width, height] of Object.values(WIDTHS)) {
      await page.setViewportSize({ width, height });
      assert.ok((await isWide(page)) <= 0, `${width}: ${await isWide(page)} pixels too wide`);
    }
    await page.click('#game-huge .whole');
    await page.waitForSelector('#whole[open]');
    assert.match(await page.locator('#whole-title').innerText(), /of huge/);
    await page.click('#copy-extras');
    await page.waitForFunction(() => document.getElementById('copy-extras').textContent === 'Copied');
    assert.deepEqual(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())), huge);
  },

  'page: a link to one round shows it, in the list or long before it': async (all) => {
    const { page, server, database } = all;
    const [old] = await database.rounds(1, 'crash', '{"point": "66.66"}');
    await database.together(80, 'crash');
    const complaints = await visit(all, `/?game=crash&round=${old}`);
    await page.waitForFunction(() => /66\.66/.test(document.getElementById('whole-extras').textContent));
    await page.click('#close-whole');
    await page.waitForURL(`${server.url}/?game=crash`);
    const [id] = await database.rounds(1, 'crash', '{"point": "77.77"}');
    await hasRow(page, id);
    const link = await page.locator('#rounds a').first().getAttribute('href');
    assert.equal(link, `?game=crash&round=${id}`);
    await page.goto(`${server.url}/${link}`);
    await page.waitForFunction(() => /77\.77/.test(document.getElementById('whole-extras').textContent));
    assert.deepEqual(complaints, []);
    await page.goto(`${server.url}/?game=crash&round=999999999`);
    await page.waitForFunction(() => /no finished round 999999999/.test(document.getElementById('whole-text').textContent));
  },

  'page: the debugger shows raw rounds and what became of the connection, and copies a command': async (all) => {
    const { page, context, server, database } = all;
    await context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await visit(all, '/?game=crash');
    await page.click('#debugger summary');
    const [id] = await database.rounds(1, 'crash', '{"point": "8.88"}');
    const logged = (text) => page.waitForFunction((text) => document.getElementById('events').textContent.includes(text), text);
    await logged(`{"round_id":${id},"game_id":`);
    await page.click('#break');
    await logged(`resume after ${id}`);
    await page.waitForSelector('#state[data-state=connected]');
    await page.click('#copy-curl');
    await page.waitForFunction(() => document.getElementById('copy-curl').textContent === 'Copied');
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()),
      `curl -N '${server.url}/sse?game=crash' -H 'Last-Event-ID: ${id}'`);
  },

  'page: a banner says what the server says, and goes when it is well': async (all) => {
    const { page, context, server, database } = all;
    await visit(all);
    await server.stop();
    await page.waitForFunction(() => /does not answer/.test(document.getElementById('banner').innerText));
    await server.start();
    await page.waitForSelector('#state[data-state=connected]');
    await page.waitForSelector('#banner', { state: 'hidden' });
    await page.goto(`${server.url}/?game=chess`);
    await page.waitForFunction(() => /does not know this selection/.test(document.getElementById('banner').innerText));
    assert.match(await page.locator('#banner').innerText(), /chess/);
    const full = await Server.start(database, ['--max-connections', '1']);
    try {
      const holding = new AbortController();
      await fetch(`${full.url}/sse`, { signal: holding.signal });
      const other = await context.newPage();
      await other.goto(`${full.url}/`);
      await other.waitForFunction(() => /takes no connection now/.test(document.getElementById('banner').innerText));
      holding.abort();
      await other.waitForSelector('#state[data-state=connected]');
      await other.waitForSelector('#banner', { state: 'hidden' });
    } finally {
      await full.stop();
    }
  },

  'page: 100 rounds a second take no more than 30 % of the main thread': async (all) => {
    const { page, context, database } = all;
    await visit(all);
    const devtools = await context.newCDPSession(page);
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' });
    const busy = async () => {
      const { metrics } = await devtools.send('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'TaskDuration').value;
    };
    let playing = true;
    let played = 0;
    const start = Date.now();
    const game = (async () => {
      while (playing) {
        const due = Math.floor((Date.now() - start) / 10);
        if (due > played) await database.together(due - played, ['crash', 'double', 'slot'][played % 3]);
        played = Math.max(played, due);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    })();
    // The page learns the rate first.
    await page.waitForFunction(() => Number(document.getElementById('rate').textContent) > 50);
    const from = [await busy(), Date.now()];
    await new Promise((resolve) => setTimeout(resolve, 5000));
    const share = (await busy() - from[0]) / ((Date.now() - from[1]) / 1000);
    playing = false;
    await game;
    assert.ok(share < 0.3, `${(100 * share).toFixed(0)} % of the main thread`);
  },

  'page: shows each game its way, and complains of nothing': async (all) => {
    const { page, database } = all;
    const complaints = await visit(all);
    const ids = await play(database);
    await hasRow(page, ids.at(-1));
    const text = async (slug) => page.locator(`#game-${slug} .latest`).innerText();
    assert.match(await text('crash'), /11\.72×/);
    assert.match(await text('double'), /5\s+red/);
    assert.match(await text('slot'), /2\.00×/);
    assert.equal(await page.locator('#game-slot .latest .icon').count(), 3);
    const reels = ['plum', 'lemon', 'seven'];
    const [id] = await database.rounds(1, 'slot', JSON.stringify({ reels, multiplier: '0.00' }));
    await hasRow(page, id);
    const drawn = () => page.evaluate(() => [...document.querySelectorAll('#game-slot .latest use')]
      .map((use) => [use.parentElement.getAttribute('aria-label'), document.querySelector(use.getAttribute('href')) !== null]));
    await until('each symbol', async () => JSON.stringify(await drawn()) === JSON.stringify(reels.map((name) => [name, true])));
    assert.match(await text('wall-street'), /up/);
    assert.match(await page.locator('#state').innerText(), /Connected by WebTransport/);
    assert.deepEqual(complaints, []);
  },

  'page: what a game puts into extras is text, never markup': async (all) => {
    const { page, database } = all;
    await visit(all);
    const evil = '{"point": "<img src=x onerror=alert(1)>", "color": "<b>"}';
    const [id] = await database.rounds(1, 'crash', evil);
    await hasRow(page, id);
    const [other] = await database.rounds(1, 'double', '{"color": "\\"><script>", "number": {"a": 1}}');
    await hasRow(page, other);
    const [odd] = await database.rounds(1, 'slot', '[1, null]');
    await hasRow(page, odd);
    assert.equal(await page.locator('main img, main script').count(), 0);
  },

  'page: server restarted, the list has no hole and no repeat': async (all) => {
    const { page, server, database } = all;
    await visit(all);
    const before = await database.rounds(2);
    await hasRow(page, before[1]);
    await server.stop();
    await page.waitForSelector('#state[data-state=reconnecting]');
    const meanwhile = await database.rounds(10);
    await server.start();
    await hasRow(page, meanwhile.at(-1), 40_000);
    const ids = [...before, ...meanwhile];
    assert.deepEqual(await shownOf(page, ids), ids.reverse());
    assert.equal(await page.locator('tr.replayed').count(), meanwhile.length);
  },

  'page: the buttons break the connection, and it resumes': async (all) => {
    const { page, database } = all;
    await visit(all);
    await page.click('#break');
    await page.waitForSelector('#state[data-state=reconnecting]');
    const meanwhile = await database.rounds(3);
    await hasRow(page, meanwhile.at(-1));
    await page.clock.install();
    await page.click('#away');
    await page.waitForFunction(() => /away/.test(document.getElementById('state').textContent));
    const away = await database.rounds(3);
    await page.clock.fastForward(11_000);
    await hasRow(page, away.at(-1));
    const ids = [...meanwhile, ...away];
    assert.deepEqual(await shownOf(page, ids), ids.reverse());
  },

  'page: transport and selection can be chosen, with the keyboard alone': async (all) => {
    const { page, database } = all;
    await visit(all);
    await page.focus('#selection');
    await page.keyboard.press('Tab');
    for (const name of ['WebTransport', 'WebSocket', 'SSE']) {
      await page.keyboard.press('ArrowRight');
      await page.waitForFunction((name) => document.getElementById('state').textContent === `Connected by ${name}`, name);
    }
    await page.selectOption('#selection', 'game=double');
    await page.waitForFunction(() => document.querySelectorAll('.game').length === 1);
    await page.waitForSelector('#state[data-state=connected]');
    const [crash] = await database.rounds(1, 'crash');
    const [double] = await database.rounds(1, 'double', '{"color": "green", "number": 0}');
    await hasRow(page, double);
    assert.deepEqual(await shownOf(page, [crash, double]), [double]);
  },

  'page: latency of every transport side by side': async (all) => {
    const { page, database } = all;
    await visit(all);
    await page.check('#compare');
    // What finishes before the page knows of a connection is a seed or a replay to that one: no dot.
    await until('a dot of each', async () => {
      await hasRow(page, (await database.rounds())[0]);
      return dots(page, ['webtransport', 'websocket', 'sse']);
    });
    await page.waitForFunction(() => /\d ms/.test(document.querySelector('#median').textContent));
  },

  'page: a slug may have a colon': async (all) => {
    const { page, database } = all;
    await database.sql("insert into public.games (slug, name, type) values ('dice:eu', 'Dice', 'dice')");
    await visit(all);
    await page.selectOption('#selection', 'game=dice%3Aeu');
    await page.waitForSelector('#state[data-state=connected]');
    const [crash] = await database.rounds(1, 'crash');
    const [dice] = await database.rounds(1, 'dice:eu');
    await hasRow(page, dice);
    assert.deepEqual(await shownOf(page, [crash, dice]), [dice]);
  },

  'page: a server without WebTransport is not asked for it, and the page says so': async ({ page, database }) => {
    const server = await Server.start(database);
    try {
      const complaints = await visit({ page, server });
      assert.equal(await page.locator('#state').innerText(), 'Connected by WebSocket');
      const choice = page.locator('[value=webtransport]');
      assert.equal(await choice.isDisabled(), true);
      assert.equal(await choice.getAttribute('aria-description'), 'Off on this server');
      assert.deepEqual(complaints, []);
    } finally {
      await server.stop();
    }
  },

  'page: memory and markup are flat over 3,600 rounds': async (all) => {
    const { page, context, database } = all;
    await visit(all);
    const devtools = await context.newCDPSession(page);
    const held = async () => {
      await devtools.send('HeapProfiler.collectGarbage');
      const { usedSize } = await devtools.send('Runtime.getHeapUsage');
      return { usedSize, nodes: (await devtools.send('Memory.getDOMCounters')).nodes };
    };
    const play = async () => hasRow(page, (await database.together(600)).at(-1));
    await play();
    const before = await held();
    for (let played = 600; played < 3600; played += 600) await play();
    const after = await held();
    assert.equal(await page.locator('#rounds tr').count(), 50);
    assert.ok(after.nodes - before.nodes < 500, `${after.nodes - before.nodes} nodes more`);
    // Two minutes of dots in the plot, and what the client remembers against repeats.
    const grown = after.usedSize - before.usedSize;
    assert.ok(grown < 2_000_000, `${grown} bytes more`);
  },

  'page: axe finds nothing moderate, and nothing is wider than the window': async (all) => {
    const { page, database } = all;
    await visit(all);
    const ids = await play(database);
    await hasRow(page, ids.at(-1));
    await page.click('#debugger summary');
    for (const [name, [width, height]] of Object.entries(WIDTHS)) {
      await page.emulateMedia({ colorScheme: name === 'dark' ? 'dark' : 'light', reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height });
      await page.screenshot({ path: new URL(`shots/${name}.png`, import.meta.url).pathname });
      assert.deepEqual(await found(page), [], name);
      assert.ok((await isWide(page)) <= 0, `${name}: ${await isWide(page)} pixels too wide`);
    }
    await page.click('#rounds a >> nth=0');
    await page.waitForSelector('#whole[open]');
    assert.deepEqual(await found(page), [], 'with a round open');
  },
};

/** Puppeteer's own way of waiting compiles a text in the page, which the page's policy forbids in Firefox. */
export const firefoxCases = {
  'page: rounds appear as they finish': async ({ page, server, database }) => {
    const errors = [];
    page.on('pageerror', (error) => errors.push(error.message));
    await page.goto(`${server.url}/`);
    await page.waitForSelector('#state[data-state=connected]');
    for (const transport of ['webtransport', 'websocket', 'sse']) {
      await page.evaluate((transport) => document.querySelector(`[value=${transport}]`).click(), transport);
      await until(`${transport} connected`, () => page.evaluate(() => document.getElementById('state').dataset.state === 'connected'));
      const [id] = await database.rounds();
      await until(`round ${id}`, () => page.evaluate((id) => document.getElementById('rounds').textContent.includes(id), `${id}`));
    }
    assert.deepEqual(errors, []);
  },
};
