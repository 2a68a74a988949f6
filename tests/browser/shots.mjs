// Takes screenshots of the live page.

import { copyFileSync, mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { Database, Server } from '../../clients/js/test/server.js';

const folder = new URL('shots/', import.meta.url);
const DOCS = { light: 'page-light', dark: 'page-dark', 'phone-dark': 'page-phone' };
const LIVE_MS = 25_000;

const pick = (...values) => values[Math.floor(Math.random() * values.length)];

/** Results as such games have them. */
const RESULTS = {
  crash: () => ({ point: Math.max(1, 0.97 / (1 - Math.random())).toFixed(2) }),
  double: () => {
    const number = Math.floor(Math.random() * 15);
    return { color: number === 0 ? 'green' : number < 8 ? 'red' : 'black', number };
  },
  slot: () => ({
    reels: [0, 1, 2].map(() => pick('cherry', 'lemon', 'orange', 'plum', 'seven')), multiplier: pick('0.00', '0.00', '2.00', '5.00', '12.00'),
  }),
  'wall-street': () => ({ trending: pick('up', 'down') }),
};

const FOREIGN = {
  poker: { winner: { place: 4, name: 'Ann' }, pot: 1234.5, board: ['Ah', 'Kd', '7c', '7s', '2h'], hands: 6, comment: 'A long comment. '.repeat(40) },
  keno: [4, 8, 15, 16, 23, 42], bingo: 'B-7', wheel: 36, empty: {}, nothing: null, 'משחק': { 'תוצאה': 'שלום', place: 1 },
  huge: { text: 'x'.repeat(900_000), list: Array.from({ length: 5000 }, (_, n) => n) },
  [`a-${'long-'.repeat(30)}name`]: { [`key_${'k'.repeat(100)}`]: 'v'.repeat(300) },
};

const play = async (database, slug) => database.rounds(1, slug, JSON.stringify(RESULTS[slug]()));

/** Plays as games do: one after another, at no fixed pace. */
const playing = async (database, milliseconds) => {
  for (const end = Date.now() + milliseconds; Date.now() < end; ) {
    await play(database, pick('crash', 'double', 'slot', 'wall-street'));
    await new Promise((resolve) => setTimeout(resolve, 100 + 500 * Math.random()));
  }
};

const database = await Database.start();
const server = await Server.start(database, ['--wt-enabled', '--wt-addr', '[::]:0']);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--webtransport-developer-mode'],
});
mkdirSync(folder, { recursive: true });

const SIZES = { wide: [1100, 1000], phone: [375, 812] };
const opened = async (path = '/', colorScheme = 'light', size = 'wide') => {
  const [width, height] = SIZES[size];
  const page = await browser.newPage({ colorScheme, viewport: { width, height }, deviceScaleFactor: size === 'phone' ? 2 : 1 });
  await page.goto(`${server.url}${path}`);
  await page.waitForSelector('#state[data-state=connected]');
  return page;
};
const shot = async (page, name, fullPage = false) => {
  await page.waitForTimeout(1200);
  await page.screenshot({ path: new URL(`${name}.png`, folder).pathname, fullPage });
  console.log(`shots/${name}.png`);
};

for (let round = 0; round < 40; round++) await play(database, Object.keys(RESULTS)[round % 4]);
const live = [await opened(), await opened('/', 'dark'), await opened('/', 'light', 'phone'), await opened('/', 'dark', 'phone')];
await Promise.all(live.map((page) => page.check('#compare')));
await playing(database, LIVE_MS);
for (const [index, name] of ['light', 'dark', 'phone', 'phone-dark'].entries()) {
  await shot(live[index], name);
  await shot(live[index], `${name}-whole`, true);
}

const [page, dark, phone] = live;
await page.click('#debugger summary');
await page.click('#break');
await page.waitForSelector('#state[data-state=connected]');
await playing(database, 3000);
await page.locator('#debugger').scrollIntoViewIfNeeded();
await shot(page, 'debugger');
await phone.click('#debugger summary');
await playing(database, 2000);
await phone.locator('#debugger').scrollIntoViewIfNeeded();
await shot(phone, 'debugger-phone');
await page.click('#rounds a >> nth=0');
await shot(page, 'round');
await page.click('#close-whole');
await server.stop();
for (const one of [page, dark, phone]) await one.evaluate(() => scrollTo(0, 0));
await page.waitForFunction(() => /does not answer/.test(document.getElementById('banner').innerText));
await shot(page, 'away');
await shot(dark, 'away-dark');
await shot(phone, 'away-phone');
await server.start();

for (const [slug, extras] of Object.entries(FOREIGN)) {
  await database.sql(`insert into public.games (slug, name, type) values ('${slug}', '${slug}', 'foreign')`);
  await database.rounds(1, slug, JSON.stringify(extras));
}
await shot(await opened('/?type=foreign'), 'foreign', true);
await shot(await opened('/?type=foreign', 'dark', 'phone'), 'foreign-phone', true);

await database.sql(`insert into public.games (slug, name, type) select 'many-' || n, 'Game ' || n, 'kind-' || n % 5 from generate_series(1, 200) n`);
await database.sql(`insert into public.rounds (game_id, finished_at, extras)
  select id, clock_timestamp(), format('{"point": "%s"}', round((1 + random() * 4)::numeric, 2))::jsonb from public.games where slug like 'many-%'`);
await shot(await opened(), 'many');
const found = await opened('/', 'dark', 'phone');
await found.fill('#search', '11');
await shot(found, 'many-phone');

process.env.DATASTREAM_AUTH_SECRET = 'a secret of the screenshots, 32 bytes';
const guarded = await Server.start(database);
const asking = await browser.newPage({ viewport: { width: 1100, height: 700 } });
await asking.goto(`${guarded.url}/?game=crash`);
await asking.waitForSelector('#token');
await shot(asking, 'token');
await asking.setViewportSize({ width: 375, height: 700 });
await shot(asking, 'token-phone');
await guarded.stop();

if (process.argv.includes('--docs')) {
  for (const [name, file] of Object.entries(DOCS)) {
    copyFileSync(new URL(`${name}.png`, folder), new URL(`../../docs/images/${file}.png`, import.meta.url));
  }
}
await browser.close();
await server.stop();
await database.stop();
