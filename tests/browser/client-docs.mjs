// The examples of docs/clients.md that need a browser, with nothing but the address changed.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const project = new URL('../../', import.meta.url);
const { build } = createRequire(new URL('clients/js/package.json', project))('esbuild');

const example = (name, server) => {
  const text = readFileSync(new URL('docs/clients.md', project), 'utf8');
  const [, found] = new RegExp(`\`\`\`\\w+\\n(\\S+ example: ${name}.*?)\`\`\``, 's').exec(text);
  return found.replaceAll('http://localhost:3000', server.url);
};

/** Shows the page from another origin than the server's. */
const show = async (page, html) => {
  await page.route('http://localhost:1/', (route) => route.fulfill({ contentType: 'text/html', body: html }));
  await page.goto('http://localhost:1/');
};

export const cases = {
  'docs: the page shows the crash point, from another origin': async ({ page, server, database }) => {
    await show(page, example('page.html', server));
    await database.rounds(1, 'crash', '{"point": "27.18"}');
    await page.waitForFunction(() => document.getElementById('point')?.value === '27.18×');
  },

  'docs: the React component lists rounds as they finish': async ({ page, server, database }) => {
    const main = `${example('react.jsx', server)}
      import { StrictMode } from 'react';
      import { createRoot } from 'react-dom/client';
      createRoot(document.body).render(<StrictMode><Crash url="${server.url}" /></StrictMode>);`;
    const resolveDir = new URL('clients/js/node_modules', project).pathname;
    const { outputFiles } = await build({
      stdin: { contents: main, loader: 'jsx', resolveDir },
      alias: { 'datastream-client': new URL('clients/js/src/index.js', project).pathname },
      bundle: true, format: 'esm', jsx: 'automatic', write: false,
    });
    await show(page, `<body><script type="module">${outputFiles[0].text.replaceAll('</script', '<\\/script')}</script>`);
    await page.waitForSelector('[aria-label=connected]', { state: 'attached' });
    await database.rounds(1, 'crash', '{"point": "31.41"}');
    await page.waitForFunction(() => document.body.innerText.includes('31.41×'));
  },
};
