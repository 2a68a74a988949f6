// What every browser must be able to do with the server. A case gets a fresh page of the server.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Server, eventually, finish } from './server.js';

/** How often the seed must arrive in a row. */
const CONNECTS = Number(process.env.CONNECTS ?? 100);

const ids = (rounds) => rounds.map((round) => round.round_id);

/** A session of the page, seen from here. */
class Session {
  constructor(page, index) {
    Object.assign(this, { page, index });
  }

  look() {
    return this.page.evaluate((index) => window.look(index), this.index);
  }

  until(what, holds) {
    return eventually(what, async () => {
      const seen = await this.look();
      return holds(seen) && seen;
    });
  }

  /** The first stream's text: the seed's, unless something comes before it. */
  async stream(number = 0) {
    const seen = await this.until(`stream ${number}`, ({ streams }) => streams[number] != null);
    return seen.streams[number];
  }
}

async function open(page, server, path, { hashes, host = '127.0.0.1' } = {}) {
  const { value } = hashes ? {} : await server.certificate();
  const url = `https://${host}:${server.port}${path}`;
  const index = await page.evaluate(([to, pins]) => window.open_(to, pins), [url, hashes ?? [value]]);
  return new Session(page, index);
}

const refused = async (page, server, path, options) =>
  assert.rejects(open(page, server, path, options), `${path} was not refused`);

function makePair(folder, name, days = 10) {
  const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
    '-days', String(days), '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-keyout', key, '-out', cert], { stdio: 'ignore' });
  return { key, cert };
}

/** What the API page shows for WebTransport, word for word, with the certificate's hash. */
const API_PAGE = `
const wt = new WebTransport(URL_OF_THE_SERVER, { serverCertificateHashes });
await wt.ready;
const reader = wt.datagrams.readable.getReader();
while (true) {
const { value, done } = await reader.read();
if (done) break;
const text = new TextDecoder().decode(value);
const round = JSON.parse(text);
console.log('Datagram:', round);
}`;

/** The snippets of docs/webtransport.md as one script. */
const documented = () => {
  const text = readFileSync(new URL('../../docs/webtransport.md', import.meta.url), 'utf8');
  return [...text.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code).join('\n');
};

/** Runs a script in a page of `localhost`, as a console would; the objects that it logs. */
async function logs(page, server, script) {
  await page.goto(`${server.http.replace('127.0.0.1', 'localhost')}/readyz`);
  await page.evaluate((code) => {
    [window.logged, window.sessions] = [[], []];
    // Known to the runner, which closes what a case leaves open.
    window.WebTransport = class extends WebTransport {
      constructor(...args) { super(...args); window.sessions.push({ wt: this }); }
    };
    console.log = (...values) => window.logged.push(values.at(-1));
    const run = new Function(`return (async () => { ${code} })()`);
    run().catch((error) => { window.logged.push({ error: String(error) }); });
  }, script);
  const seen = (id) => eventually(`round ${id} in the log`, async () =>
    (await page.evaluate(() => window.logged)).find((round) => round.round_id === id));
  return seen;
}

export const cases = {
  async 'the snippet of the API page receives rounds on a page of localhost'(page, server) {
    await server.latest('crash');
    const { url, value } = await server.certificate();
    const pin = `const hash = Uint8Array.from(atob('${value}'), (c) => c.charCodeAt(0));
      const serverCertificateHashes = [{ algorithm: 'sha-256', value: hash }];`;
    const address = `'${url.replace('127.0.0.1', 'localhost')}'`;
    const seen = await logs(page, server, pin + API_PAGE.replace('URL_OF_THE_SERVER', address));
    await eventually('the session', async () =>
      (await server.metric('datastream_subscribers{transport="webtransport"}')) === 1);
    const [id] = finish('crash', 1, '{"point": "11.72"}');
    assert.equal((await seen(id)).extras, '{"point": "11.72"}');
  },

  async 'the snippets of the documentation show the seed and what follows'(page, server) {
    const [seed] = await server.latest('crash');
    const origin = server.http.replace('127.0.0.1', 'localhost');
    const seen = await logs(page, server, documented().replaceAll('http://localhost:3000', origin));
    await seen(seed);
    const [small] = finish('crash');
    await seen(small);
    const [large] = finish('crash', 1, JSON.stringify({ point: 'x'.repeat(5000) }));
    await seen(large);
  },

  async 'the seed comes by stream and later rounds by datagram, in order'(page, server) {
    const [seed] = await server.latest('crash');
    const session = await open(page, server, '/wt/crash');
    assert.equal(JSON.parse(await session.stream()).round_id, seed);
    const later = [finish('crash')[0], finish('crash')[0], finish('crash')[0]];
    const { datagrams, late } = await session.until('three datagrams', (seen) => seen.datagrams.length === 3);
    assert.deepEqual(ids(datagrams), later);
    assert.deepEqual(Object.keys(datagrams[0]),
      ['round_id', 'game_id', 'game_slug', 'game_type', 'finished_at', 'extras', 'timestamp']);
    assert.ok(Math.max(...late) < 1000, `late by ${late} ms`);
  },

  async [`the seed reaches the page in ${CONNECTS} of ${CONNECTS} connects`](page, server) {
    const [seed] = await server.latest('crash');
    for (let connect = 0; connect < CONNECTS; connect += 1) {
      const session = await open(page, server, '/wt/crash');
      assert.equal(JSON.parse(await session.stream()).round_id, seed, `connect ${connect}`);
      await page.evaluate((index) => window.sessions[index].wt.close(), session.index);
    }
    await eventually('all sessions to be over', async () =>
      (await server.metric('datastream_subscribers{transport="webtransport"}')) === 0);
  },

  async 'a selection gets its rounds and no others'(page, server) {
    for (const game of ['crash', 'double']) await server.latest(game);
    const one = await open(page, server, '/wt/type/color');
    const two = await open(page, server, '/wt?game=crash&game=double');
    const all = await open(page, server, '/wt');
    await Promise.all([one, two, all].map((session) => session.stream()));
    const [crash, slot, double] = ['crash', 'slot', 'double'].map((game) => finish(game)[0]);
    const seen = async (session, expected) => {
      const { datagrams } = await session.until('its rounds', (now) => now.datagrams.length >= expected.length);
      assert.deepEqual(ids(datagrams), expected);
    };
    await seen(all, [crash, slot, double]);
    await seen(two, [crash, double]);
    await seen(one, [double]);
  },

  async 'a round of 5 kB comes whole on a stream of its own'(page, server) {
    await server.latest('slot');
    const session = await open(page, server, '/wt/slot');
    await session.stream();
    const [large] = finish('slot', 1, JSON.stringify({ reels: 'x'.repeat(5000) }));
    const round = JSON.parse(await session.stream(1));
    assert.equal(round.round_id, large);
    assert.equal(JSON.parse(round.extras).reels.length, 5000);
    const [small] = finish('slot');
    await session.until('the next datagram', ({ datagrams }) => ids(datagrams).includes(small));
  },

  async 'after replays every later round on one stream, one a line, then live'(page, server) {
    const [point, ...later] = await server.latest('crash', 300);
    const session = await open(page, server, `/wt/crash?after=${point}`);
    const text = await session.stream();
    assert.deepEqual(ids(text.trimEnd().split('\n').map(JSON.parse)), later);
    const [live] = finish('crash');
    const { datagrams, streams } = await session.until('a datagram', (seen) => seen.datagrams.length > 0);
    assert.deepEqual(ids(datagrams), [live]);
    assert.equal(streams.length, 1);
  },

  async 'an unknown resume point is a gap, then the seed'(page, server) {
    const [seed] = await server.latest('crash');
    const session = await open(page, server, '/wt/crash?after=999999999');
    // Two streams: the gap is sent first, but a browser may hand them over in either order.
    const sent = [JSON.parse(await session.stream())];
    if (page.handsOverAll) sent.push(JSON.parse(await session.stream(1)));
    const told = sent.map(({ type, round_id }) => type ?? round_id).sort();
    if (page.handsOverAll) assert.deepEqual(told, [seed, 'gap']);
    else assert.ok(['gap', seed].includes(told[0]), told[0]);
  },

  async 'the policy of the live page lets it connect'(page, server) {
    await page.goto(`${server.http}/`);
    await page.evaluate(page.prepare);
    await server.latest('crash');
    await (await open(page, server, '/wt/crash')).stream();
  },

  async 'the live page and an EventSource work by https'(page) {
    // Firefox would have to be started for it.
    if (!page.context) return;
    const { key, cert } = makePair(mkdtempSync(join(tmpdir(), 'certificates-')), 'tls');
    const files = { DATASTREAM_TLS_CERT: cert, DATASTREAM_TLS_KEY: key };
    const server = await Server.start({ ...files, DATASTREAM_WT_ENABLED: 'false' });
    try {
      const devtools = await page.context().newCDPSession(page);
      await devtools.send('Security.setIgnoreCertificateErrors', { ignore: true });
      await page.goto(`${server.http}/`);
      await page.waitForSelector('#state[data-state=connected]');
      await page.evaluate(() => {
        window.events = [];
        const source = new EventSource('/sse/crash');
        for (const name of ['initial', 'message']) {
          source.addEventListener(name, ({ data }) => window.events.push(JSON.parse(data).round_id));
        }
        return new Promise((resolve) => { source.onopen = resolve; });
      });
      const [id] = finish('crash');
      await page.waitForFunction((id) => window.events.includes(id)
        && [...document.querySelectorAll('#rounds td:first-child')].some((cell) => cell.textContent === `${id}`), id);
    } finally {
      await server.stop();
    }
  },

  async 'an unknown game, type or path is refused'(page, server) {
    for (const path of ['/wt/chess', '/wt/type/board', '/nowhere', '/wt/crash?after=%01']) {
      await refused(page, server, path);
    }
  },

  async 'localhost works: the server listens on IPv6 and IPv4'(page, server) {
    await server.latest('crash');
    for (const host of ['localhost', '127.0.0.1', '[::1]']) {
      await (await open(page, server, '/wt/crash', { host })).stream();
    }
  },

  async 'a hash that is not the certificate\'s is refused, the announced one is not needed yet'(page, server) {
    const { value, next } = await server.certificate();
    assert.notEqual(value, next);
    await refused(page, server, '/wt/crash', { hashes: [next] });
    await (await open(page, server, '/wt/crash', { hashes: [value, next] })).stream();
  },

  async 'an exchanged certificate is used at once, a broken one is not'(page) {
    const folder = mkdtempSync(join(tmpdir(), 'certificates-'));
    const [one, two] = [makePair(folder, 'one'), makePair(folder, 'two')];
    const used = { cert: join(folder, 'used.pem'), key: join(folder, 'used.key') };
    const use = (cert, key) => { copyFileSync(cert, used.cert); copyFileSync(key, used.key); };
    use(one.cert, one.key);
    const server = await Server.start({ DATASTREAM_WT_CERT: used.cert, DATASTREAM_WT_KEY: used.key });
    try {
      await page.goto(`${server.http}/healthz`);
      await page.evaluate(page.prepare);
      await server.latest('crash');
      const before = (await server.certificate()).value;
      const session = await open(page, server, '/wt/crash');
      await session.stream();
      use(two.cert, one.key);
      await server.logged(/ERROR.*cannot use the changed certificate/);
      assert.equal((await server.certificate()).value, before);
      await (await open(page, server, '/wt/crash', { hashes: [before] })).stream();
      use(two.cert, two.key);
      const after = await eventually('the new hash', async () => {
        const { value } = await server.certificate();
        return value !== before && value;
      });
      await refused(page, server, '/wt/crash', { hashes: [before] });
      await (await open(page, server, '/wt/crash', { hashes: [after] })).stream();
      const [live] = finish('crash');
      await session.until('a round by the old connection', ({ datagrams }) => ids(datagrams).includes(live));
    } finally {
      await server.stop();
    }
  },

  async 'a stopping server says bye and closes'(page) {
    const server = await Server.start();
    await page.goto(`${server.http}/healthz`);
    await page.evaluate(page.prepare);
    await server.latest('crash');
    const sessions = [];
    for (let number = 0; number < 10; number += 1) sessions.push(await open(page, server, '/wt/crash'));
    for (const session of sessions) await session.stream();
    assert.equal(await server.stop(), 0);
    const told = [];
    for (const session of sessions) {
      const { streams } = await session.until('the end', ({ closed }) => closed !== null);
      const bye = streams.map((text) => JSON.parse(text)).find(({ type }) => type === 'bye');
      if (bye) told.push(bye.code);
    }
    assert.ok(page.handsOverAll ? told.length === sessions.length : told.length > 0, `${told.length} of 10`);
    assert.ok(told.every((code) => code === 1001), told.join());
  },
};
