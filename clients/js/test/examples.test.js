/** Runs each example of docs/clients.md, with nothing but the address changed. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Database, Server, root } from './server.js';

const package_ = fileURLToPath(new URL('..', import.meta.url));
const folder = join(package_, 'node_modules/.examples');
const examples = new Map(
  [...readFileSync(join(root, 'docs/clients.md'), 'utf8').matchAll(/```\w+\n(\S+ example: (\S+?)(?: -->)?\n.*?)```/gs)].map(
    ([, text, name]) => [name, text],
  ),
);
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
  const text = examples.get(name).replaceAll('localhost:3000', `127.0.0.1:${server.port}`);
  const path = join(folder, name);
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

test('react.jsx builds, and renders without a server', async () => {
  const outfile = join(folder, 'react.mjs');
  const options = { bundle: true, format: 'esm', platform: 'node', jsx: 'automatic', packages: 'external' };
  await build({ ...options, entryPoints: [write('react.jsx')], outfile });
  const { Crash } = await import(outfile);
  const { createElement } = await import('react');
  const { renderToString } = await import('react-dom/server');
  assert.equal(renderToString(createElement(Crash, { url: server.url })), '<ul aria-label="connecting"></ul>');
});

test('page.html stands as it is in the documentation', () => {
  // Run by tests/browser, in a browser.
  assert.match(examples.get('page.html'), /client\.js/);
  ran.add('page.html');
});

test('no example is left out', () => assert.deepEqual([...ran].sort(), [...examples.keys()].sort()));
