// The examples of docs/clients.md that need a browser, with nothing but the address changed.

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const project = new URL('../../', import.meta.url);
const { build } = createRequire(new URL('clients/js/package.json', project))('esbuild');

const example = (name, server) => {
  const text = readFileSync(new URL('docs/clients.md', project), 'utf8');
  const [, found] = new RegExp(`\`\`\`\\w+\\n(\\S+ example: ${name}.*?)\`\`\``, 's').exec(text);
  return found.replaceAll('http://localhost:3000', server.url);
};

/** Shows the page from another origin than the server's. A real one: Chromium takes what a test makes
 * up for a page from far away, and asks its user before it lets that reach this machine. */
const show = async (page, html) => {
  const site = createServer((_, response) => response.setHeader('content-type', 'text/html').end(html));
  await once(site.listen(0, '127.0.0.1'), 'listening');
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  site.close();
};

export const cases = {
  'docs: the page shows the crash point, from another origin': async ({ page, server, database }) => {
    await show(page, example('page.html', server));
    await database.rounds(1, 'crash', '{"point": "27.18"}');
    await page.waitForFunction(() => document.querySelector('output')?.textContent === '27.18×');
  },

  'docs: the React component lists rounds as they finish': async ({ page, server, database }) => {
    const main = `${example('react.tsx', server)}
      import { StrictMode } from 'react';
      import { createRoot } from 'react-dom/client';
      createRoot(document.body).render(<StrictMode><Crash url="${server.url}" /></StrictMode>);`;
    const resolveDir = new URL('clients/js/node_modules', project).pathname;
    const { outputFiles } = await build({
      stdin: { contents: main, loader: 'tsx', resolveDir },
      alias: { 'datastream-client/react': new URL('clients/js/src/react.js', project).pathname },
      bundle: true, format: 'esm', jsx: 'automatic', write: false,
    });
    await show(page, `<body><script type="module">${outputFiles[0].text.replaceAll('</script', '<\\/script')}</script>`);
    await page.waitForSelector('[aria-label=connected]', { state: 'attached' });
    await database.rounds(1, 'crash', '{"point": "31.41"}');
    await page.waitForFunction(() => document.body.innerText.includes('31.41×'));
  },
};
