/** Runs each example of README and docs, with nothing but the address changed. */

import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { Database, Server, root } from './server.js';
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

/** A program of the documentation, and what it has printed. */
class Program {
  constructor([program, ...args], env = {}) {
    this.text = '';
    this.wake = () => {};
    this.child = spawn(program, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    this.exited = once(this.child, 'exit');
    for (const output of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: output }).on('line', (line) => {
        this.text += `${line}\n`;
        this.wake();
      });
    }
  }

  async printed(text) {
    const deadline = Date.now() + 40000;
    while (!this.text.includes(text)) {
      assert.ok(Date.now() < deadline, `${text} is not in:\n${this.text}`);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, 1000);
      });
    }
  }

  async kill() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    await this.exited;
  }
}

/** A point that no round of another test has. */
let points = 100;
const finish = async () => {
  const point = `${++points}.31`;
  await database.rounds(1, 'crash', `{"point": "${point}"}`);
  return point;
};

/** Each round that is inserted has to come out, over a restart and a kill of the server, too. */
const prints = async (command, { restarts = true, env } = {}) => {
  const seed = await finish();
  const program = new Program(command, env);
  try {
    await program.printed(seed);
    await program.printed(await finish());
    if (!restarts) return;
    for (const signal of ['SIGTERM', 'SIGKILL']) {
      await server.stop(signal);
      const missed = [await finish(), await finish()];
      await server.start();
      for (const point of missed) await program.printed(point);
      await program.printed(await finish());
    }
  } finally {
    await program.kill();
  }
};

/** An unknown game is said, and ends the program. */
const endsForUnknownGame = async (command, env) => {
  const program = new Program([...command, 'chess'], env);
  try {
    await program.printed('chess');
    const [status] = await program.exited;
    assert.notEqual(status, 0);
  } finally {
    await program.kill();
  }
};

/** A full server is said, and asked again. */
const waitsForRoom = async (command, env) => {
  await server.stop();
  server.flags = ['--max-connections', '1'];
  await server.start();
  const holding = new AbortController();
  // Referenced until the end: Node closes the connection of a response that nobody refers to.
  const held = await fetch(`${server.url}/sse`, { signal: holding.signal });
  const program = new Program(command, env);
  try {
    await program.printed('503');
    assert.equal(held.bodyUsed, false);
    holding.abort();
    await program.printed(await finish());
  } finally {
    await program.kill();
    await server.stop();
    server.flags = [];
    await server.start();
  }
};

const has = (program, ...args) => spawnSync(program, args).status === 0;

/** Packages of Python, into a folder of their own. */
const python = (...packages) => {
  const target = join(package_, 'node_modules/.python');
  const env = { PYTHONPATH: target };
  if (packages.length && spawnSync('python3', ['-c', 'import websockets.asyncio.client'], { env: { ...process.env, ...env } }).status !== 0) {
    execFileSync('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--root-user-action', 'ignore', '--target', target, ...packages]);
  }
  return env;
};

/** The Go program, built. */
const go = (path) => {
  const project = join(folder, 'go');
  mkdirSync(project, { recursive: true });
  const run = (...args) => execFileSync('go', args, { cwd: project, stdio: 'pipe', env: { ...process.env, GOFLAGS: '-mod=mod' } });
  run('mod', 'init', 'example');
  writeFileSync(join(project, 'main.go'), readFileSync(path));
  run('get', 'github.com/gorilla/websocket@v1.5.3');
  run('build', '-o', 'rounds', '.');
  return join(project, 'rounds');
};

/** The Rust program is built with the workspace, and takes the address from its environment. */
const rust = () => {
  const built = process.env.DATASTREAM && join(dirname(process.env.DATASTREAM), 'rounds');
  if (built && existsSync(built)) return built;
  execFileSync('cargo', ['build', '--quiet', '--package', 'datastream-example-rust'], { cwd: root });
  return join(root, 'target/debug/rounds');
};

const PROGRAMS = {
  'node-client.mjs': (path) => ({ command: [process.execPath, path] }),
  'node-ws.mjs': (path) => ({ command: [process.execPath, path] }),
  'node-eventsource.mjs': (path) => ({ command: [process.execPath, path] }),
  'sse.py': (path) => ({ command: ['python3', path] }),
  'ws.py': (path) => ({ command: ['python3', path], env: python('websockets==17.4') }),
  'rounds.go': (path) => ({ command: [go(path)] }),
  'Rounds.java': (path) => ({ command: ['java', path] }),
  'rounds.rs': () => ({ command: [rust()], env: { SERVER: server.url.replace('http', 'ws') } }),
};
/** Toolchains that not every machine has. */
const MISSING = {
  'rounds.go': !has('go', 'version') && 'go is not installed',
  'Rounds.java': !has('java', '--version') && 'java is not installed',
};

for (const [name, prepare] of Object.entries(PROGRAMS)) {
  describe(name, { skip: MISSING[name], timeout: 180_000 }, () => {
    let command;
    let env;
    before(() => ({ command, env } = prepare(write(name))));
    test(`${name} prints each round, over a restart and a kill of the server, too`, () => prints(command, { env }));
    test(`${name} says that a game is unknown, and ends`, () => endsForUnknownGame(command, env));
    test(`${name} says that the server is full, and goes on when it is not`, () => waitsForRoom(command, env));
  });
  if (MISSING[name]) ran.add(name);
}

test('curl.sh prints each round', () => prints(['sh', write('curl.sh')], { restarts: false }));

test('the Rust program of the documentation is the one that is built', () => {
  assert.equal(snippets.get('rounds.rs').text, readFileSync(join(root, 'examples/rust/src/main.rs'), 'utf8'));
});

for (const name of ['readme.ts', 'readme-loop.ts']) {
  test(`${name} prints each round`, async () => {
    const outfile = join(folder, `${name}.mjs`);
    await build({ entryPoints: [write(name)], outfile });
    await prints([process.execPath, outfile], { restarts: false });
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
