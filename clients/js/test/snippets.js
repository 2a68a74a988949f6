/** The snippets of README and docs that have a name: `// example: NAME` in their first line. */

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './server.js';

const FENCE = /^```(\w+)\n((?:\S+ )?example: (\S+?)(?: -->)?\n.*?)^```$/gms;

const pages = ['README.md', 'clients/js/README.md', ...readdirSync(join(root, 'docs'))
  .filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];

/** By name: `{ page, language, text }`. */
export const snippets = new Map(
  pages.flatMap((page) =>
    [...readFileSync(join(root, page), 'utf8').matchAll(FENCE)].map(([, language, text, name]) => [name, { page, language, text }])),
);
