// Runs every case in every browser that is asked for; says how many passed.
// usage: run.js [BROWSER...]; ONLY=TEXT picks cases by their names.

import { browsers } from './browsers.js';
import { cases } from './cases.js';
import { prepare } from './page.js';
import { Server } from './server.js';

const LIMIT = 120_000;
const asked = process.argv.slice(2);
const chosen = Object.entries(cases).filter(([name]) => name.includes(process.env.ONLY ?? ''));
let passed = 0;
let failed = 0;

function limited(work) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${LIMIT} ms`)), LIMIT);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}

/** One case on a page of its own; the error that it failed with. */
async function attempt(name, browser, server, [title, run]) {
  const page = await browser.page();
  page.prepare = prepare;
  // Firefox ESR 140 keeps one stream in ten to itself, and one of two that come together rather often, but for the
  // first of a session, however long the session goes on. Chromium and aioquic hand over all.
  page.handsOverAll = name !== 'firefox';
  const start = Date.now();
  try {
    await page.goto(`${server.http}/healthz`);
    await page.evaluate(prepare);
    await limited(run(page, server));
    passed += 1;
    console.log(`ok      ${name}: ${title} (${Date.now() - start} ms)`);
    return null;
  } catch (error) {
    return error;
  } finally {
    // Firefox keeps the sessions of a page that is only closed.
    await page.evaluate(() => window.sessions?.forEach(({ wt }) => wt.close())).catch(() => {});
    await page.close().catch(() => {});
  }
}

for (const name of asked.length ? asked : Object.keys(browsers)) {
  const browser = await browsers[name]();
  const server = await Server.start();
  for (const one of chosen) {
    // Firefox ESR 140 hands a stream over late, or not at all, now and then; what it never does has failed.
    let left = name === 'firefox' ? 4 : 1;
    while (left > 0) {
      left -= 1;
      const error = await attempt(name, browser, server, one);
      if (!error) break;
      console.log(`${left ? 'again ' : 'FAILED'}  ${name}: ${one[0]}\n${error.stack}\n${server.log.slice(-5).join('\n')}`);
      failed += left ? 0 : 1;
    }
  }
  await server.stop();
  await browser.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
