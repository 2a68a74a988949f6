/** `npm test`: installs and builds what is missing, then runs all tests and says how many passed. ONLY=NAME runs one test. */

import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('..', import.meta.url));
const must = (program, args, cwd) => {
  const { status } = spawnSync(program, args, { cwd, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
};

must(join(here, '../../scripts/npm-packages'), [here], here);
if (!process.env.DATASTREAM) must('cargo', ['build', '--quiet', '--bin', 'datastream'], join(here, '../..'));
const { ONLY } = process.env;
if (!ONLY) {
  must(process.execPath, ['build.js', '--check'], here);
  must('npx', ['publint', '--strict'], here);
  must('npx', ['attw', '--pack', '.', '--profile', 'esm-only', '--quiet'], here);
}

const tests = readdirSync(join(here, 'test')).filter((name) => name.endsWith('.test.js'));
const escaped = ONLY?.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
const only = ONLY ? [`--test-name-pattern=${escaped}`] : [];
const { status, stdout } = spawnSync(
  process.execPath,
  ['--test', ...only, '--test-reporter=spec', '--test-concurrency=1', '--test-timeout=600000', ...tests.map((name) => join(here, 'test', name))],
  { cwd: here, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 1 << 26 },
);
process.stdout.write(stdout);
const count = (word) => new RegExp(`${word} (\\d+)`).exec(stdout)?.[1] ?? '0';
// `scripts/repeat-failed` reads these lines. The reporter ends with the list of what failed.
const [, list = ''] = stdout.split('failing tests:');
for (const [, name] of list.matchAll(/^✖ (.*) \([\d.]+ms\)$/gm)) console.log(`FAILED  ${name}`);
console.log(`clients/js: ${count('pass')} passed, ${count('fail')} failed`);
process.exit(status ?? 1);
