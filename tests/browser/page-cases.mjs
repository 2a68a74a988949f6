// The live page.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Server } from '../../clients/js/test/server.js';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const WIDTHS = { light: [1100, 1000], dark: [1100, 1000], phone: [375, 760], narrow: [320, 640] };

/** Opens the page; whatever it complains of, or fetches from elsewhere, fails the case. */
const visit = async ({ page, server }) => {
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && !/ERR_CONNECTION|ERR_INTERNET|QUIC/.test(message.text())) complaints.push(message.text());
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url)) complaints.push(`fetched ${request.url()}`);
  });
  await page.goto(`${server.url}/`);
  await page.waitForSelector('#state[data-state=connected]');
  return complaints;
};

const until = async (what, condition) => {
  const end = Date.now() + 20_000;
  while (!(await condition())) if (Date.now() > end) throw new Error(`not seen: ${what}`);
};

const hasRow = (page, id, timeout = 20_000) =>
  page.waitForFunction((id) => [...document.querySelectorAll('#rounds td:first-child')].some((cell) => cell.textContent === `${id}`),
    id, { timeout, polling: 20 });

const shownOf = (page, ids) =>
  page.evaluate((ids) => [...document.querySelectorAll('#rounds td:first-child')]
    .map((cell) => Number(cell.textContent)).filter((id) => ids.includes(id)), ids);

const serious = async (page) => {
  // Axe is brought in past the policy, which forbids it to the page.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  return violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
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
    await page.selectOption('#selection', 'game:double');
    await page.waitForFunction(() => document.querySelectorAll('.game:not([hidden])').length === 1);
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
    await page.selectOption('#selection', 'game:dice:eu');
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
    assert.equal(await page.locator('#rounds tr').count(), 100);
    assert.ok(after.nodes - before.nodes < 500, `${after.nodes - before.nodes} nodes more`);
    // Two minutes of dots in the plot, and what the client remembers against repeats.
    const grown = after.usedSize - before.usedSize;
    assert.ok(grown < 2_000_000, `${grown} bytes more`);
  },

  'page: axe finds nothing serious, and nothing is wider than the window': async (all) => {
    const { page, database } = all;
    await visit(all);
    const ids = await play(database);
    await hasRow(page, ids.at(-1));
    for (const [name, [width, height]] of Object.entries(WIDTHS)) {
      await page.emulateMedia({ colorScheme: name === 'dark' ? 'dark' : 'light', reducedMotion: 'reduce' });
      await page.setViewportSize({ width, height });
      await page.screenshot({ path: new URL(`shots/${name}.png`, import.meta.url).pathname });
      assert.deepEqual(await serious(page), [], name);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name}: ${wide} pixels too wide`);
    }
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
