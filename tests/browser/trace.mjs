// Records a trace of the live page while rounds finish, and says how busy its main thread was.

import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { chromium } from 'playwright-core';
import { Database, Server } from '../../clients/js/test/server.js';

const SHARE_MAX = 0.3;
const [rate = 100, seconds = 10] = process.argv.slice(2).map(Number);
const GAMES = [['crash', '{"point": "2.00"}'], ['double', '{"color": "red", "number": 5}'], ['slot', '{"reels": ["cherry", "lemon", "seven"], "multiplier": "2.00"}']];
/** The first has the tasks, the second what is in them. */
const CATEGORIES = ['disabled-by-default-devtools.timeline', 'devtools.timeline'];
const file = new URL('shots/trace.json', import.meta.url);

/** Finishes rounds at the rate until it is told to stop. */
const play = async (database, during) => {
  let played = 0;
  const start = Date.now();
  while (during.playing) {
    const due = Math.floor(((Date.now() - start) * rate) / 1000);
    if (due > played) await database.together(due - played, ...GAMES[played % GAMES.length]);
    played = Math.max(played, due);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};

/** The main thread of the page: of all renderers' the one with the most work. */
const mainThread = (events) => {
  const mains = events.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain');
  const threads = mains.map(({ pid, tid }) => events.filter((event) => event.pid === pid && event.tid === tid && event.ph === 'X'));
  return threads.sort((a, b) => b.length - a.length)[0];
};

const summary = (thread) => {
  const named = (name) => thread.filter((event) => event.name === name);
  const tasks = named('RunTask');
  const from = Math.min(...tasks.map(({ ts }) => ts));
  const until = Math.max(...tasks.map(({ ts, dur }) => ts + dur));
  const length = until - from;
  const sum = (events, key) => events.reduce((total, event) => total + (event[key] ?? 0), 0);
  const each = (name) => [(sum(named(name), 'dur') / length * 100).toFixed(1), (named(name).length / (length / 1e6)).toFixed(1)];
  const forced = named('Layout').filter(({ args }) => args.beginData?.stackTrace);
  return { length, cpu: sum(tasks, 'tdur') / length, wall: sum(tasks, 'dur') / length, longest: Math.max(...tasks.map(({ dur }) => dur)), each, forced };
};

const database = await Database.start();
const server = await Server.start(database, ['--wt-enabled', '--wt-addr', '[::]:0']);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: ['--no-sandbox', '--disable-gpu', '--webtransport-developer-mode'],
});
const page = await browser.newPage({ viewport: { width: 1100, height: 1000 } });
await page.goto(`${server.url}/`);
await page.waitForSelector('#state[data-state=connected]');
const during = { playing: true };
const game = play(database, during);
// The page learns the rate within ten seconds, and renders less often then.
await page.waitForFunction((rate) => Number(document.getElementById('rate').textContent) > 0.8 * rate, rate, { timeout: 60_000 });
await browser.startTracing(page, { categories: CATEGORIES });
await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const trace = await browser.stopTracing();
const [shown, transport] = await Promise.all(['rate', 'state'].map((id) => page.locator(`#${id}`).innerText()));
during.playing = false;
await game;
await browser.close();
await server.stop();
await database.stop();

mkdirSync(new URL('.', file), { recursive: true });
writeFileSync(file, trace);
const { length, cpu, wall, longest, each, forced } = summary(mainThread(JSON.parse(trace).traceEvents));
const percent = (share) => `${(100 * share).toFixed(1)} %`;
console.log(`${transport}, ${shown} rounds a second, traced for ${(length / 1e6).toFixed(1)} s; load of the machine ${loadavg()[0].toFixed(1)}`);
console.log(`main thread: ${percent(cpu)} by its processor time, ${percent(wall)} by the clock; longest task ${(longest / 1000).toFixed(1)} ms`);
for (const name of ['FunctionCall', 'FireAnimationFrame', 'UpdateLayoutTree', 'Layout', 'PrePaint', 'Paint', 'MinorGC', 'MajorGC']) {
  const [share, count] = each(name);
  console.log(`${name.padEnd(20)} ${share.padStart(5)} %  ${count.padStart(6)} a second`);
}
console.log(`layouts that a script forced: ${forced.length}`);
process.exit(cpu > SHARE_MAX ? 1 : 0);
