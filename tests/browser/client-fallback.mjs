// Which transport is found, and what happens where one is missing.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import { connected, eachOnce, open, until } from './client-page.mjs';

/** A UDP port that swallows everything, as a firewall does. */
const silentPort = async () => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return { port: socket.address().port, close: () => socket.close() };
};

/** Sends WebTransport into the wall until it is opened. */
const blockUdp = async (page) => {
  const wall = await silentPort();
  const state = { blocked: true, asked: 0, close: wall.close };
  await page.route('**/wt/certificate', async (route) => {
    state.asked++;
    const response = await route.fetch();
    const body = await response.json();
    if (state.blocked) body.url = `https://127.0.0.1:${wall.port}/wt`;
    await route.fulfill({ response, json: body });
  });
  return state;
};

/** A proxy as there are many: HTTP passes, upgrades do not. */
const withoutUpgrades = async (server) => {
  const proxy = createServer((incoming, outgoing) => {
    const headers = { ...incoming.headers, connection: 'close' };
    delete headers.upgrade;
    const { method, url } = incoming;
    const onward = request({ host: '127.0.0.1', port: server.port, method, path: url, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on('error', () => outgoing.destroy());
    outgoing.on('close', () => onward.destroy());
    onward.end();
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return proxy;
};

export const cases = {
  'WebTransport is found where it is there': async ({ page, server }) => {
    await open(page, server, { game: 'crash' });
    await connected(page, 'webtransport');
  },

  'UDP blocked: WebSocket, within the time for a connect and a little': async ({ page, server, database }) => {
    const udp = await blockUdp(page);
    await open(page, server, { game: 'crash' });
    const start = Date.now();
    await connected(page, 'websocket');
    assert.ok(Date.now() - start < 4000, `${Date.now() - start} ms`);
    await eachOnce(page, await database.rounds());
    // The next stream of the page starts with what worked.
    await page.evaluate(() => stream.close());
    await open(page, server, { game: 'crash' });
    const again = Date.now();
    await connected(page, 'websocket');
    assert.ok(Date.now() - again < 1000, `${Date.now() - again} ms`);
    udp.close();
  },

  'UDP and WebSocket blocked: SSE': async ({ page, server, database }) => {
    const udp = await blockUdp(page);
    const proxy = await withoutUpgrades(server);
    await open(page, server, { game: 'crash' }, `http://127.0.0.1:${proxy.address().port}`);
    await connected(page, 'sse');
    await eachOnce(page, await database.rounds());
    proxy.closeAllConnections();
    proxy.close();
    udp.close();
  },

  'back to WebTransport when it is there again, without a pause': async ({ page, server, database }) => {
    const udp = await blockUdp(page);
    await page.clock.install();
    await open(page, server, { game: 'crash' });
    await page.clock.fastForward(2500);
    await connected(page, 'websocket');
    udp.blocked = false;
    const before = await database.rounds();
    await eachOnce(page, before);
    await page.clock.fastForward(70_000);
    await connected(page, 'webtransport');
    await eachOnce(page, [...before, ...(await database.rounds())]);
    // The browser got no event about the pause.
    const states = await page.evaluate(() => seen.states.map(({ state }) => state));
    assert.ok(!states.includes('reconnecting'), `${states}`);
    udp.close();
  },

  'any order or subset can be asked for': async ({ page, server }) => {
    await open(page, server, { game: 'crash', transports: ['sse', 'websocket'] });
    await connected(page, 'sse');
  },

  'a silent connection is replaced by one that lives': async ({ page, server, database }) => {
    // The first WebSocket receives nothing after its seed, as after a change of network.
    await page.addInitScript(() => {
      const Original = WebSocket;
      window.sockets = [];
      window.WebSocket = class extends Original {
        constructor(url) {
          super(url);
          sockets.push(this);
          if (sockets.length > 1) return;
          const set = (take) => this.addEventListener('message', take, { once: true });
          Object.defineProperty(this, 'onmessage', { set });
        }
      };
    });
    await page.clock.install();
    const seed = await database.rounds(1, 'wall-street');
    await open(page, server, { game: 'wall-street', transports: ['websocket'] });
    await eachOnce(page, seed);
    const missed = await database.rounds(2, 'wall-street');
    await page.clock.fastForward(50_000);
    await until(page, 'a second socket', () => sockets.length === 2);
    await eachOnce(page, [...missed, ...(await database.rounds(1, 'wall-street'))]);
    assert.equal(await page.evaluate(() => sockets[0].readyState > 1), true, 'the first is closed');
  },
};
