// The React hooks: the Vite project in examples/react, built and driven.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';

const example = new URL('../../examples/react/', import.meta.url).pathname;
const KINDS = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

/** Builds the project against a server; React's checks (StrictMode) are in development builds alone. */
const build = (server, mode) => {
  execFileSync(new URL('../../scripts/npm-packages', import.meta.url).pathname, [example]);
  const outDir = mkdtempSync(join(tmpdir(), 'datastream-react-'));
  const env = { ...process.env, NODE_ENV: mode, VITE_DATASTREAM_URL: server.url };
  execFileSync('npx', ['tsc', '--noEmit'], { cwd: example });
  execFileSync('npx', ['vite', 'build', '--mode', mode, '--outDir', outDir, '--emptyOutDir'], { cwd: example, env, stdio: 'pipe' });
  return outDir;
};

/** Serves the built files until the case ends. */
const served = async (server, mode, run) => {
  const folder = build(server, mode);
  const site = createServer(({ url }, response) => {
    const path = url === '/' ? '/index.html' : url;
    try {
      const body = readFileSync(join(folder, path));
      response.setHeader('content-type', KINDS[extname(path)] ?? 'text/plain').end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await once(site.listen(0, '127.0.0.1'), 'listening');
  try {
    await run(`http://127.0.0.1:${site.address().port}/`);
  } finally {
    site.closeAllConnections();
    site.close();
    rmSync(folder, { recursive: true });
  }
};

const subscribers = async (server) => {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return [...text.matchAll(/^datastream_subscribers\{[^}]*\} (\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
};

const until = async (what, condition) => {
  const end = Date.now() + 20_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not seen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const shown = (page) => page.locator('ol li').allInnerTexts();

const drive = (mode) => async ({ page, server, database }) => {
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && !/404|ERR_/.test(message.text()) && errors.push(message.text()));
  await until('no subscriber of another case', async () => (await subscribers(server)) === 0);
  const past = await database.rounds(3);
  await served(server, mode, async (url) => {
    await page.goto(url);
    await page.waitForSelector('section[data-state=connected]');
    await until('the history', async () => (await shown(page)).filter((text) => past.some((id) => text.includes(`crash ${id}:`))).length === 3);
    await until('one connection, with StrictMode too', async () => (await subscribers(server)) === 1);
    const [id] = await database.rounds(1, 'crash', '{"point": "31.41"}');
    await page.waitForFunction((text) => document.querySelector('ol li')?.innerText.startsWith(text), `crash ${id}:`);
    // Another selection is another list.
    await page.selectOption('select', 'crash');
    await page.waitForSelector('section[data-state=connected]');
    await page.waitForFunction(() => /31\.41×/.test(document.body.innerText));
    await until('the streams of list and latest', async () => (await subscribers(server)) === 2);
    const [other] = await database.rounds(1, 'double', '{"color": "red", "number": 5}');
    const [next] = await database.rounds(1, 'crash', '{"point": "2.72"}');
    await page.waitForFunction(() => /Latest: 2\.72×/.test(document.body.innerText));
    const texts = await shown(page);
    assert.ok(texts[0].startsWith(`crash ${next}:`), texts[0]);
    assert.ok(!texts.some((text) => text.includes(`double ${other}:`)), 'only crash');
    // A round that finishes again is in the list once.
    await database.sql(`update public.rounds set finished_at = null where id = ${next}`);
    await database.sql(`update public.rounds set finished_at = clock_timestamp(), extras = '{"point": "2.73"}' where id = ${next}`);
    await page.waitForFunction(() => /Latest: 2\.73×/.test(document.body.innerText));
    await until('its row', async () => (await shown(page))[0].includes('2.73'));
    assert.equal((await shown(page)).filter((text) => text.startsWith(`crash ${next}:`)).length, 1);
    // What is not shown has no connection.
    await page.click('button');
    await until('the list has disconnected', async () => (await subscribers(server)) === 1);
    await page.click('button');
    await page.waitForSelector('section[data-state=connected]');
    await until('the list is back', async () => (await shown(page))[0]?.startsWith(`crash ${next}:`));
  });
  await page.goto('about:blank');
  await until('no subscriber is left', async () => (await subscribers(server)) === 0);
  assert.deepEqual(errors, []);
};

export const cases = {
  'react: the example lists rounds, changes its selection and leaves nothing open, in StrictMode': drive('development'),
  'react: the example as it is shipped': drive('production'),
};
