/** Runs each example of README and docs, with nothing but the address changed. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Database, Server } from './server.js';
import { snippets } from './snippets.js';

const package_ = fileURLToPath(new URL('..', import.meta.url));
const folder = join(package_, 'node_modules/.examples');
const ran = new Set();
let database;
let server;

before(async () => {
  database = await Database.start();
  server = await Server.start(database);
  rmSync(folder, { recursive: true, force: true });
  const modules = join(folder, 'node_modules');
  mkdirSync(modules, { recursive: true });
  symlinkSync(package_, join(modules, 'datastream-client'));
});
after(async () => {
  await server.stop();
  await database.stop();
});

const write = (name) => {
  ran.add(name);
  const text = snippets.get(name).text.replaceAll('localhost:3000', `127.0.0.1:${server.port}`);
  const path = join(folder, name.replace(/\.ts$/, '.mts'));
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
};

/** Each round that is inserted has to come out, over a restart of the server, too. */
const prints = async (program, args, restarts = true) => {
  const child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = [];
  let wake = () => {};
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line);
    wake();
  });
  const printed = async (text) => {
    const deadline = Date.now() + 20000;
    while (!lines.some((line) => line.includes(text))) {
      assert.ok(Date.now() < deadline, `${text} is not in:\n${lines.join('\n')}`);
      await new Promise((resolve) => {
        wake = resolve;
        setTimeout(resolve, 1000);
      });
    }
  };
  try {
    const [seed] = await seeded;
    await printed(`${seed}`);
    await database.rounds(1, 'crash', '{"point": "11.72"}');
    await printed('11.72');
    if (!restarts) return;
    await server.stop();
    await database.rounds(1, 'crash', '{"point": "31.41"}');
    await server.start();
    await printed('31.41');
  } finally {
    const exited = child.exitCode === null && once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }
};

let seeded;
for (const [name, program, restarts] of [
  ['node-client.mjs', process.execPath],
  ['node-ws.mjs', process.execPath],
  ['node-eventsource.mjs', process.execPath],
  ['sse.py', 'python3'],
  ['curl.sh', 'sh', false],
]) {
  test(`${name} prints each round${restarts === false ? '' : ', over a restart of the server, too'}`, async () => {
    seeded = database.rounds();
    await seeded;
    await prints(program, [write(name)], restarts);
  });
}

for (const name of ['readme.ts', 'readme-loop.ts']) {
  test(`${name} prints each round`, async () => {
    seeded = database.rounds();
    await seeded;
    const outfile = join(folder, `${name}.mjs`);
    await build({ entryPoints: [write(name)], outfile });
    await prints(process.execPath, [outfile], false);
  });
}

test('readme-token.ts asks for its token', async () => {
  const outfile = join(folder, 'readme-token.mjs');
  const token = '/session/token';
  assert.ok(snippets.get('readme-token.ts').text.includes(token));
  await build({ entryPoints: [write('readme-token.ts')], outfile });
  const asked = [];
  const original = globalThis.fetch;
  globalThis.fetch = async (url, init) => {
    asked.push([`${url}`, init?.headers?.authorization]);
    return `${url}`.endsWith(token) ? new Response('abc') : new Response('', { status: 403 });
  };
  try {
    await import(outfile);
    const deadline = Date.now() + 5000;
    while (asked.length < 2 && Date.now() < deadline) await new Promise(setImmediate);
  } finally {
    globalThis.fetch = original;
  }
  assert.ok(asked[0][0].endsWith(token));
  assert.equal(asked[1][1], 'Bearer abc');
});

for (const [name, component, props] of [['react.tsx', 'Crash', {}], ['readme.tsx', 'Last', { game: 'crash' }]]) {
  test(`${name} builds, and renders without a server`, async () => {
    const outfile = join(folder, `${name}.mjs`);
    const options = { bundle: true, format: 'esm', platform: 'node', jsx: 'automatic', packages: 'external' };
    await build({ ...options, entryPoints: [write(name)], outfile });
    const components = await import(outfile);
    const { createElement } = await import('react');
    const { renderToString } = await import('react-dom/server');
    const html = renderToString(createElement(components[component], { url: server.url, ...props }));
    assert.match(html, component === 'Crash' ? /^<ul aria-label="connecting"><\/ul>$/ : /^<output><\/output>$/);
  });
}

test('page.html is run by tests/browser', () => {
  assert.match(snippets.get('page.html').text, /client\.js/);
  ran.add('page.html');
});

test('no example is left out', () => assert.deepEqual([...ran].sort(), [...snippets.keys()].sort()));
