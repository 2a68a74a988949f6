// Runs each case in a fresh context of Debian's Chromium, and the last ones in Firefox; says how
// many passed.

import { inspect } from 'node:util';
import { existsSync, mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import puppeteer from 'puppeteer-core';
import { Database, Server } from '../../clients/js/test/server.js';
import { cases as client } from './client-cases.mjs';
import { cases as docs } from './client-docs.mjs';
import { cases as fallback } from './client-fallback.mjs';
import { cases as react } from './client-react.mjs';
import { firefoxCases, cases as live } from './page-cases.mjs';
import { cases as odd } from './page-odd-cases.mjs';
import { cases as tokens } from './page-token-cases.mjs';

const LIMIT_MS = 60_000;
const wanted = process.argv[2] ?? process.env.ONLY ?? '';
const count = { passed: 0, failed: 0 };

const limited = (work) => {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
};

const attempt = async (title, run) => {
  const start = Date.now();
  try {
    await limited(run());
    count.passed++;
    console.log(`ok      ${title} (${Date.now() - start} ms)`);
  } catch (error) {
    count.failed++;
    console.log(`FAILED  ${title}\n${inspect(error)}`); // with its cause
  }
};

const chosen = (cases) => Object.entries(cases).filter(([title]) => title.includes(wanted));

const database = await Database.start();
const server = await Server.start(database, ['--wt-enabled', '--wt-addr', '[::]:0', '--heartbeat', '2s']);
mkdirSync(new URL('shots', import.meta.url), { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  // Without the last one Chromium delays connects after the failures that some cases mean to cause.
  args: ['--no-sandbox', '--disable-gpu', '--webtransport-developer-mode'],
});
for (const [title, run] of chosen({ ...client, ...fallback, ...docs, ...react, ...live, ...odd, ...tokens })) {
  const context = await browser.newContext();
  await attempt(`chromium: ${title}`, async () => run({ page: await context.newPage(), context, server, database }));
  await context.close();
}
await browser.close();

const firefox = process.env.FIREFOX ?? '/usr/bin/firefox-esr';
if (chosen(firefoxCases).length && existsSync(firefox)) {
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath: firefox, headless: true });
  for (const [title, run] of chosen(firefoxCases)) {
    const page = await browser.newPage();
    await attempt(`firefox: ${title}`, () => run({ page, server, database }));
    await page.close();
  }
  await browser.close();
} else if (chosen(firefoxCases).length) {
  console.log('Firefox is not installed: its cases are left out');
}

await server.stop();
await database.stop();
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exit(count.failed ? 1 : 0);
