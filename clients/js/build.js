/**
 * Builds what is committed: `dist/client.js`, the file that the server has built in, also gzipped,
 * and `dist/client-webtransport.js`, which it loads if WebTransport is used. `--check` says whether
 * they are current.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { gzipAsync } from '@gfx/zopfli';
import { build } from 'esbuild';

const here = fileURLToPath(new URL('.', import.meta.url));
const bin = (name) => join(here, 'node_modules/.bin', name);
/** What a page has to load before it can connect. */
const GZIPPED_MOST = 4500;
/** Properties that only our modules use among themselves: one letter each in the built files. */
const INTERNAL = /^(opened|alive|renew|renewAt|resumed|active|since|life|retryAfter|back|frozen|loose|sure|last|take|hold|release|restart)$/;
const BANNER = '/*! datastream-client, MIT OR Apache-2.0 */';

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

mkdirSync(join(out, 'dist'), { recursive: true });
execFileSync(bin('tsc'), ['--project', here], { stdio: 'inherit' });
const mangleCache = {};
const bundle = async (entry, file) => {
  const outfile = join(out, 'dist', file);
  const built = await build({
    entryPoints: [join(here, 'src', entry)],
    outfile,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    legalComments: 'none',
    external: ['./webtransport.js'],
    mangleProps: INTERNAL,
    mangleCache,
    banner: { js: BANNER },
  });
  // Both files must agree on the letters.
  Object.assign(mangleCache, built.mangleCache);
  const text = readFileSync(outfile, 'utf8');
  writeFileSync(outfile, text.replace('./webtransport.js', './client-webtransport.js'));
};
await bundle('index.js', 'client.js');
await bundle('webtransport.js', 'client-webtransport.js');
// 2 % smaller than zlib's best, and any browser reads it.
const gzipped = await gzipAsync(readFileSync(join(out, 'dist/client.js')), { numiterations: 30 });
writeFileSync(join(out, 'dist/client.js.gz'), gzipped);

if (gzipped.length >= GZIPPED_MOST) {
  console.error(`dist/client.js.gz has ${gzipped.length} bytes, ${GZIPPED_MOST} are allowed`);
  process.exitCode = 1;
}
if (checking) {
  current('dist/client.js');
  current('dist/client-webtransport.js');
  // By content: versions of the compressor may differ.
  current('dist/client.js.gz', gunzipSync);
  rmSync(out, { recursive: true });
  if (stale.length) {
    console.error(`not current: ${stale.join(', ')}. Run: npm run build`);
    process.exitCode = 1;
  }
}
console.log(`client.js: ${gzipped.length} bytes gzipped`);
