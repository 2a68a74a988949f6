/** The types, as a strict project sees them: the snippets of README and docs, and what must not compile. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { snippets } from './snippets.js';

const here = fileURLToPath(new URL('..', import.meta.url));
const folder = join(here, 'node_modules/.types');

const CONFIG = {
  compilerOptions: {
    strict: true, skipLibCheck: false, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true,
    target: 'es2022', module: 'nodenext', jsx: 'react-jsx', lib: ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'], types: ['node', 'react'],
  },
  include: ['*.ts', '*.tsx'],
};

/** Compiles files as a package of its own; returns what tsc complains of. */
const compile = (files, options = {}) => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  symlinkSync(here, join(folder, 'node_modules/datastream-client'));
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}');
  const compilerOptions = { ...CONFIG.compilerOptions, ...options };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ ...CONFIG, compilerOptions }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const { stdout } = spawnSync(join(here, 'node_modules/.bin/tsc'), ['--project', folder], { encoding: 'utf8' });
  return stdout;
};

/** The scripts among the snippets that use the client, as TypeScript. */
const scripts = () => {
  const found = {};
  for (const [name, { language, text }] of snippets) {
    const [, inline] = /<script type="module">(.*)<\/script>/s.exec(text) ?? [];
    const code = inline ?? text;
    if (!/from '(datastream-client|http[^']*client\.js)/.test(code)) continue;
    const file = `${name.replace(/\W/g, '-')}.${/[jt]sx$/.test(language) ? 'tsx' : 'ts'}`;
    found[file] = code.replace(/'http[^']*client\.js'/, "'datastream-client'");
  }
  return found;
};

test('the snippets of README and docs compile with strict and without skipLibCheck', () => {
  const files = scripts();
  assert.ok(Object.keys(files).length >= 4, `${Object.keys(files)}`);
  assert.equal(compile(files), '');
});

test('types say what the contract says', () => {
  const right = `
    import { connect, type RoundDetail, type Stream } from 'datastream-client';
    import { useLatest, useRounds } from 'datastream-client/react';
    const stream = connect<{ point: string }>({ url: new URL('http://host'), game: 'crash', seed: 'each', history: 5, token: async () => 'x' });
    const target: EventTarget = stream;
    const typed: Stream<{ point: string }> = stream;
    const listener = { handleEvent(event: Event) { event.preventDefault(); } };
    stream.addEventListener('round', listener);
    stream.removeEventListener('round', listener);
    stream.addEventListener('round', { handleEvent: ({ detail }) => detail.extras.point.length }, { once: true });
    stream.addEventListener('round', ({ detail }) => detail.extras.point.toUpperCase());
    stream.addEventListener('state', ({ detail }) => [detail.status?.toFixed(), detail.code, detail.delay.toFixed()]);
    stream.addEventListener('gap', ({ detail }) => detail.after);
    stream.addEventListener('error', ({ detail }) => { throw detail; });
    stream.addEventListener('anything', () => {});
    const id: number | string | null = stream.lastRoundId;
    for await (const { extras } of connect<{ a: 1 }>()) { const one: 1 = extras.a; void one; break; }
    for await (const { extras } of connect({ types: ['a'] as const })) void extras.anything;
    const rounds: readonly RoundDetail<{ a: 1 }>[] = useRounds<{ a: 1 }>({ games: ['a'], limit: 3 }).rounds;
    const latest: RoundDetail<string> | undefined = useLatest<string>(null).latest;
    void [target, typed, id, rounds, latest];`;
  assert.equal(compile({ 'right.ts': right }), '');
  const wrong = [
    "connect({ game: 'a', type: 'b' });",
    "connect({ games: ['a'], types: ['b'] });",
    'connect({ game: undefined });',
    "connect({ transports: ['ws'] });",
    "connect({ seed: 'all' });",
    "connect<{ point: string }>().addEventListener('round', ({ detail }) => detail.extras.color);",
    "connect().addEventListener('state', ({ detail }) => detail.stat);",
  ];
  const head = "import { connect } from 'datastream-client';\n";
  const complaints = compile(Object.fromEntries(wrong.map((line, index) => [`wrong${index}.ts`, head + line])));
  for (const [index, line] of wrong.entries()) assert.match(complaints, new RegExp(`wrong${index}\\.ts\\(2,`), line);
});

test('types need no DOM', () => {
  const code = `
    import { connect } from 'datastream-client';
    connect({ url: 'http://host' }).addEventListener('round', ({ detail }) => detail.round.round_id);`;
  assert.equal(compile({ 'node.ts': code }, { lib: ['es2023'], types: ['node'] }), '');
});
