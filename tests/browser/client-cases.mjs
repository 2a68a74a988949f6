// What the client promises, over each transport.

import assert from 'node:assert/strict';
import { away, connected, eachOnce, open, until } from './client-page.mjs';

const over = (transport) => {
  const only = { game: 'crash', transports: [transport] };
  const inOrder = (rounds, ids) => assert.deepEqual(rounds, ids);
  return {
    [`${transport}: the latest round first, then each as it finishes`]: async ({ page, server, database }) => {
      await database.rounds();
      await open(page, server, only);
      await connected(page, transport);
      await until(page, 'a seed', () => seen.initials.length === 1);
      const ids = [...(await database.rounds()), ...(await database.rounds())];
      inOrder(await eachOnce(page, ids), ids);
    },

    [`${transport}: 1,000 rounds in a burst, each once`]: async ({ page, server, database }) => {
      await open(page, server, only);
      await connected(page, transport);
      const ids = await database.rounds(1000);
      const rounds = await eachOnce(page, ids);
      if (transport !== 'webtransport') inOrder(rounds, ids);
    },

    [`${transport}: 1,000 rounds of one transaction, each once`]: async ({ page, server, database }) => {
      await database.rounds();
      await open(page, server, only);
      await connected(page, transport);
      const ids = await database.together(1000);
      await eachOnce(page, ids);
    },

    [`${transport}: server restarted under the page, each round once`]: async ({ page, server, database }) => {
      await open(page, server, only);
      await connected(page, transport);
      const before = await database.rounds(3);
      await eachOnce(page, before);
      await server.stop();
      await away(page);
      const meanwhile = await database.rounds(30);
      await server.start();
      await connected(page, transport);
      const after = await database.rounds(3);
      const all = [...before, ...meanwhile, ...after];
      inOrder(await eachOnce(page, all), all);
      assert.deepEqual(await page.evaluate(() => seen.gaps), []);
    },

    [`${transport}: a resume point that is gone is a gap and a new seed`]: async ({ page, server, database }) => {
      const [latest] = await database.rounds();
      await open(page, server, { ...only, after: 999999999 });
      await until(page, 'a seed', () => seen.initials.length === 1);
      await eachOnce(page, [latest]);
      assert.deepEqual(await page.evaluate(() => seen.gaps), [999999999]);
    },

    [`${transport}: offline and online again, each round once`]: async ({ page, context, server, database }) => {
      await open(page, server, only);
      await connected(page, transport);
      const before = await database.rounds();
      await eachOnce(page, before);
      await context.setOffline(true);
      await away(page);
      const meanwhile = await database.rounds(5);
      await context.setOffline(false);
      const all = [...before, ...meanwhile];
      inOrder(await eachOnce(page, all), all);
    },

    [`${transport}: a frozen page holds no connection, and misses nothing`]: async ({ page, server, database }) => {
      await open(page, server, only);
      await connected(page, transport);
      const before = await database.rounds();
      await eachOnce(page, before);
      await page.evaluate(() => document.dispatchEvent(new Event('freeze')));
      assert.equal(await page.evaluate(() => seen.states.at(-1).delay), Infinity);
      const meanwhile = await database.rounds(5);
      await page.evaluate(() => document.dispatchEvent(new Event('resume')));
      const all = [...before, ...meanwhile];
      inOrder(await eachOnce(page, all), all);
    },
  };
};

export const cases = {
  ...over('webtransport'),
  ...over('websocket'),
  ...over('sse'),

  'webtransport: large rounds come by stream, more of them than a session has streams': async ({ page, server, database }) => {
    await open(page, server, { game: 'crash', transports: ['webtransport'] });
    await connected(page, 'webtransport');
    const ids = await database.rounds(150, 'crash', JSON.stringify({ point: 'x'.repeat(2000) }));
    await eachOnce(page, ids);
  },

  'memory is flat over 3,600 rounds': async ({ page, context, server, database }) => {
    await open(page, server, { game: 'crash', transports: ['websocket'] });
    await connected(page);
    const devtools = await context.newCDPSession(page);
    const heap = async () => {
      await page.evaluate(() => seen.rounds.splice(0));
      await devtools.send('HeapProfiler.collectGarbage');
      return (await devtools.send('Runtime.getHeapUsage')).usedSize;
    };
    const play = async (count) => eachOnce(page, await database.together(count));
    await play(600);
    const before = await heap();
    for (let played = 600; played < 3600; played += 600) await play(600);
    const grown = (await heap()) - before;
    // What is remembered against repeats: an id and a time, below 200 bytes a round.
    assert.ok(grown < 1_000_000, `${grown} bytes more`);
  },
};
