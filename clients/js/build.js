/**
 * Makes what is committed from what is written: `types/` by tsc, and `dist/client.js`, the one file
 * that the server has built in, also gzipped. `--check` says whether they are current.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const bin = (name) => join(here, 'node_modules/.bin', name);
/** What a page has to load before it can connect. */
const GZIPPED_MOST = 4000;

const checking = process.argv.includes('--check');
const out = checking ? mkdtempSync(join(tmpdir(), 'datastream-client-')) : here;
const stale = [];

const current = (path, read = (bytes) => bytes) => {
  const fresh = read(readFileSync(join(out, path)));
  try {
    if (fresh.equals(read(readFileSync(join(here, path))))) return;
  } catch {}
  stale.push(path);
};

rmSync(join(out, 'types'), { recursive: true, force: true });
mkdirSync(join(out, 'dist'), { recursive: true });
execFileSync(bin('tsc'), ['--project', here, '--outDir', join(out, 'types')], { stdio: 'inherit' });
await build({
  entryPoints: [join(here, 'src/index.js')],
  outfile: join(out, 'dist/client.js'),
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  banner: { js: '/*! datastream-client, MIT OR Apache-2.0. Readable in clients/js/src */' },
});
const gzipped = gzipSync(readFileSync(join(out, 'dist/client.js')), { level: 9 });
writeFileSync(join(out, 'dist/client.js.gz'), gzipped);

if (gzipped.length >= GZIPPED_MOST) {
  console.error(`dist/client.js.gz has ${gzipped.length} bytes, ${GZIPPED_MOST} are allowed`);
  process.exitCode = 1;
}
if (checking) {
  for (const file of readdirSync(join(out, 'types'))) current(join('types', file));
  current('dist/client.js');
  // By content: other versions of zlib compress to other bytes.
  current('dist/client.js.gz', gunzipSync);
  rmSync(out, { recursive: true });
  if (stale.length) {
    console.error(`not current: ${stale.join(', ')}. Run: npm run build`);
    process.exitCode = 1;
  }
}
console.log(`client.js: ${gzipped.length} bytes gzipped`);
