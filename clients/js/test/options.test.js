/** Each option against a server that the test scripts. */

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { WebSocket } from 'ws';
import { connect } from '../src/index.js';
import { collect } from './collect.js';
import { event, fake, jwt, refuse, round, streaming } from './fake.js';

globalThis.WebSocket ??= WebSocket;

const cleanup = [];
afterEach(() => cleanup.splice(0).forEach((close) => close()));

const serve = async (script) => {
  const server = await fake(script);
  cleanup.push(server.close);
  return server;
};
const start = (options) => {
  const stream = connect(options);
  cleanup.push(() => stream.close());
  return [stream, collect(stream)];
};
const sse = (url, options) => start({ url, game: 'crash', transports: ['sse'], ...options });

test('a contradictory, undefined or empty selection is a TypeError', () => {
  const url = 'http://127.0.0.1:9';
  for (const wrong of [
    { game: 'a', type: 'b' }, { game: 'a', games: ['b'] }, { games: ['a'], types: ['b'] }, { type: 'a', types: ['b'] },
    { game: undefined }, { type: undefined }, { games: undefined }, { types: undefined }, { game: null }, { game: 'a', type: undefined },
    { game: '' }, { type: '' }, { games: [] }, { types: [] }, { games: ['a', undefined] }, { games: [''] }, { games: 'crash' }, { game: 7 }, { game: ['a'] },
  ]) {
    assert.throws(() => connect({ url, ...wrong }), TypeError, JSON.stringify(wrong));
  }
});

for (const [url, written] of [
  ['localhost:3000', 'http://localhost:3000'],
  ['127.0.0.1:3000', 'http://127.0.0.1:3000'],
  ['ws://host:1', 'http://host:1'],
  ['//host', 'http://host'],
  ['wss://host', 'https://host'],
  ['localhost/api', 'http://localhost/api'],
  // `fetch` takes no user and no password.
  ['https://me:secret@host/api', 'https://host/api'],
  ['http://host:99999', 'http://localhost:3000'],
  ['http://', 'http://localhost:3000'],
  [undefined, 'http://localhost:3000'],
]) {
  test(`the url ${url} is an error that says to write ${written}`, async () => {
    const [stream, seen] = start({ url, game: 'crash' });
    await seen.until('an error', () => seen.errors.length);
    assert.match(seen.errors[0].message, new RegExp(`Write "${written}"`));
    assert.equal(stream.state, 'closed');
  });
}

test('a stream without any transport ends with an error that names them', async () => {
  const original = globalThis.WebSocket;
  globalThis.WebSocket = undefined;
  cleanup.push(() => (globalThis.WebSocket = original));
  const [stream, seen] = start({ url: 'http://127.0.0.1:9', transports: ['webtransport', 'websocket'] });
  await seen.until('an error', () => seen.errors.length);
  assert.match(seen.errors[0].message, /webtransport,websocket/);
  assert.equal(stream.state, 'closed');
  assert.deepEqual(seen.states.map(({ state }) => state), ['connecting', 'closed']);
});

for (const status of [400, 403, 404]) {
  test(`${status} ends the stream, also where a WebSocket hides the status`, async () => {
    const server = await serve({ http: (_, response) => refuse(response, status, 'no such thing'), upgrade: () => status });
    const [, direct] = sse(server.url);
    await direct.until('an error', () => direct.errors.length);
    assert.equal(direct.errors[0].status, status);
    assert.match(direct.errors[0].message, /no such thing/);
    const [stream, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'] });
    await seen.until('an error', () => seen.errors.length);
    assert.equal(seen.errors[0].status, status);
    assert.match(seen.errors[0].message, /no such thing/);
    assert.equal(stream.state, 'closed');
    const asked = server.requests.slice(-2).map(({ method, url }) => [method, url]);
    assert.deepEqual(asked, [['HEAD', '/sse?game=crash'], ['GET', '/sse?game=crash']]);
  });
}

test('a WebSocket that fails where events would be let in opens no event stream', async () => {
  const server = await serve({ http: (_, response) => streaming(response), upgrade: () => 502 });
  const [, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'] });
  await seen.until('a delay', () => seen.states.some(({ delay }) => delay));
  const { status, code } = seen.states.at(-1);
  assert.deepEqual({ status, code }, { status: null, code: 1006 });
  assert.deepEqual(server.requests.filter(({ url }) => url.startsWith('/sse')).map(({ method }) => method), ['HEAD']);
});

// The request itself would be ended after 10 s.
test('a stream that opens while the reason of a refusal is asked for is given back', { timeout: 9000 }, async () => {
  let closed;
  const given = new Promise((resolve) => (closed = resolve));
  const http = ({ method }, response) => {
    if (method === 'HEAD') return refuse(response, 503, 'full');
    response.on('close', closed);
    return streaming(response);
  };
  const server = await serve({ http, upgrade: () => 503 });
  start({ url: server.url, game: 'crash', transports: ['websocket'] });
  await given;
});

test('the status of a refusal stays if its reason cannot be asked for', async () => {
  const http = ({ method }, response) => (method === 'HEAD' ? refuse(response, 403, '') : response.destroy());
  const server = await serve({ http, upgrade: () => 403 });
  const [stream, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'] });
  await seen.until('an error', () => seen.errors.length);
  assert.equal(seen.errors[0].status, 403);
  assert.equal(stream.state, 'closed');
});

test('a refused WebSocket of a server that is full is asked for again no sooner than it said', async () => {
  const server = await serve({
    http: (_, response) => refuse(response, 503, 'full', { 'retry-after': '9' }), upgrade: () => 503,
  });
  const [, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'] });
  await seen.until('a delay', () => seen.states.some(({ delay }) => delay));
  const { status, code, delay, state, reason } = seen.states.at(-1);
  const expected = { status: 503, code: 1006, delay: 9000, state: 'connecting', reason: 'full' };
  assert.deepEqual({ status, code, delay, state, reason }, expected);
});

test('the reason of a refusal stays beside its status, whatever the other transports say', async () => {
  const original = globalThis.WebTransport;
  globalThis.WebTransport = class {};
  cleanup.push(() => (globalThis.WebTransport = original));
  let isOpen = true;
  const server = await serve({
    http: (_, response) => (isOpen ? streaming(response) : refuse(response, 403, 'the token does not allow it')),
  });
  const transports = ['sse', 'webtransport'];
  const [first, seen] = start({ url: server.url, game: 'crash', transports });
  await seen.connected();
  first.close();
  isOpen = false;
  const [, refused] = start({ url: server.url, game: 'crash', transports });
  await refused.until('an error', () => refused.errors.length);
  assert.equal(refused.errors[0].status, 403);
  assert.match(refused.errors[0].message, /the token does not allow it/);
});

test('a delay beyond what a timer can hold is not a hot loop', async (context) => {
  const server = await serve({ http: (_, response) => refuse(response, 503, 'full', { 'retry-after': '99999999' }) });
  const timer = context.mock.method(globalThis, 'setTimeout');
  const [, seen] = sse(server.url);
  await seen.until('a delay', () => seen.states.some(({ delay }) => delay));
  assert.equal(seen.states.at(-1).delay, 99999999000);
  assert.ok(timer.mock.calls.every(({ arguments: [, delay = 0] }) => delay < 2 ** 31));
});

test('a token goes into the header of SSE and of the history, and into the subprotocol of WebSocket', async () => {
  const server = await serve({
    http: (request, response) => (request.url.startsWith('/rounds') ? response.end('[]') : streaming(response)),
    upgrade: () => 0,
  });
  const [, first] = sse(server.url, { token: 'abc', history: 1 });
  await first.connected();
  await first.until('the history', () => server.requests.length === 2);
  assert.deepEqual(server.requests.map(({ headers }) => headers.authorization), ['Bearer abc', 'Bearer abc']);
  const [, second] = start({ url: server.url, game: 'crash', transports: ['websocket'], token: () => 'def' });
  await second.connected();
  assert.equal(server.requests.at(-1).headers['sec-websocket-protocol'], 'datastream,bearer.def');
  assert.ok(server.requests.every(({ url }) => !/abc|def/.test(url)));
});

test('the probe of a refused WebSocket carries the token', async () => {
  const server = await serve({ http: (_, response) => refuse(response, 403, ''), upgrade: () => 403 });
  const [, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'], token: 'abc' });
  await seen.until('an error', () => seen.errors.length);
  assert.equal(server.requests.at(-1).headers.authorization, 'Bearer abc');
});

test('a fixed token that is refused ends the stream, and so does a missing one', async () => {
  const server = await serve({ http: (_, response) => refuse(response, 401, 'the token has expired') });
  for (const token of ['abc', undefined]) {
    const [stream, seen] = sse(server.url, { token });
    await seen.until('an error', () => seen.errors.length);
    assert.equal(seen.errors[0].status, 401);
    assert.match(seen.errors[0].message, /the token has expired/);
    assert.equal(stream.state, 'closed');
  }
  assert.equal(server.requests.length, 2);
});

test('a token function is asked again after 401, with backoff, and may fail', async () => {
  let calls = 0;
  const token = async () => {
    calls++;
    if (calls === 1) throw Error('no session');
    return calls < 4 ? 'old' : 'new';
  };
  const server = await serve({
    http: ({ headers }, response) =>
      headers.authorization === 'Bearer new' ? streaming(response) : refuse(response, 401, 'expired'),
  });
  const [, seen] = sse(server.url, { token, backoff: { min: 20, max: 60 } });
  await seen.connected();
  assert.equal(calls, 4);
  assert.deepEqual(seen.errors, []);
  const waits = seen.states.filter(({ delay }) => delay);
  assert.deepEqual(waits.map(({ status, reason }) => [status, reason]), [[null, 'no session'], [401, 'expired'], [401, 'expired']]);
  assert.ok(waits.every(({ delay }) => delay <= 60), `${waits.map(({ delay }) => delay)}`);
});

test('a token that runs out is renewed by a successor, without a gap or a repeat', async () => {
  const now = Date.now() / 1000;
  const tokens = [];
  const token = () => {
    // The first lives for 2 s, the others for an hour.
    const made = jwt({ iat: now, exp: now + (tokens.length ? 3600 : 2), n: tokens.length });
    tokens.push(made);
    return made;
  };
  const open = [];
  const server = await serve({
    upgrade: () => 0,
    socket: (socket, { url }) => {
      open.push([socket, url]);
      if (open.length === 1) socket.send(JSON.stringify(round(7)));
      else socket.send(JSON.stringify(round(8)));
    },
  });
  const [, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'], token });
  await seen.round(8);
  assert.equal(tokens.length, 2);
  assert.match(open[1][1], /after=7$/);
  assert.deepEqual(seen.rounds, [7, 8]);
  assert.deepEqual(seen.states.map(({ state }) => state), ['connecting', 'connected']);
});

test('4401 by WebSocket and bye by SSE reconnect within a second, with a new token and the resume point', async () => {
  let calls = 0;
  const token = () => `t${++calls}`;
  let asked = 0;
  const server = await serve({
    upgrade: () => 0,
    socket: (socket) => {
      socket.send(JSON.stringify(round(++asked)));
      if (asked === 1) socket.close(4401, 'the token has expired');
    },
    http: (_, response) => {
      streaming(response, event(round(++asked)));
      if (asked === 3) response.end('event: bye\ndata: {"code":4401,"reason":"the token has expired"}\n\n');
    },
  });
  const [, seen] = start({ url: server.url, game: 'crash', transports: ['websocket'], token });
  await seen.round(2);
  const lost = seen.states.find(({ state }) => state === 'reconnecting');
  assert.deepEqual([lost.code, lost.reason], [4401, 'the token has expired']);
  assert.ok(lost.delay <= 1000);
  assert.match(server.requests.at(-1).url, /after=1$/);
  const [, other] = sse(server.url, { token });
  await other.round(4);
  assert.equal(other.states.find(({ state }) => state === 'reconnecting').code, 4401);
  assert.equal(server.requests.at(-1).headers.authorization, 'Bearer t4');
  assert.match(server.requests.at(-1).url, /after=3$/);
});

test('history comes first, oldest first, over as many pages as it takes; then what came meanwhile', async () => {
  let asked = 0;
  let live;
  const server = await serve({
    http: ({ url }, response) => {
      if (url.startsWith('/sse')) {
        live = response;
        return streaming(response, event(round(5), 'initial'), event(round(6)));
      }
      asked++;
      if (asked === 1) {
        assert.equal(url, '/rounds?game=crash&limit=4');
        response.setHeader('link', '</rounds?game=crash&limit=4&at=x>; rel="next"');
        response.end(JSON.stringify([5, 4, 3].map((id) => round(id))));
      } else {
        assert.equal(url, '/rounds?game=crash&limit=4&at=x');
        response.end(JSON.stringify([2, 1].map((id) => round(id))));
      }
    },
  });
  const [, seen] = sse(server.url, { history: 4 });
  await seen.round(6);
  assert.deepEqual(seen.rounds, [2, 3, 4, 5, 6]);
  assert.deepEqual(seen.initials, [2, 3, 4, 5]);
  // A resume has no history.
  live.end();
  await seen.until('a resume', () => server.requests.at(-1).url.endsWith('after=6'));
  assert.equal(asked, 2);
});

test('a history that cannot be had is a gap, and the stream goes on', async () => {
  const server = await serve({
    http: ({ url }, response) =>
      url.startsWith('/sse') ? streaming(response, event(round(5), 'initial')) : refuse(response, 503, 'not ready'),
  });
  const [, seen] = sse(server.url, { history: 4 });
  await seen.round(5);
  assert.deepEqual(seen.gaps, [null]);
  assert.deepEqual(seen.initials, [5]);
});

test('seeds of games that are not in the history come before it', async () => {
  const other = { game_id: 2 };
  const server = await serve({
    http: ({ url }, response) =>
      url.startsWith('/sse')
        ? streaming(response, event(round(1, other), 'initial'), event(round(5), 'initial'))
        : response.end(JSON.stringify([round(5), round(4)])),
  });
  const [, seen] = sse(server.url, { history: 2, seed: 'each' });
  await seen.round(5);
  assert.deepEqual(seen.rounds, [1, 4, 5]);
  assert.deepEqual(seen.initials, [1, 4, 5]);
  assert.match(server.requests[0].url, /seed=each/);
});

test('by WebSocket the first round of each game counts as initial with seed each, the first of all by default, none with none', async () => {
  const server = await serve({
    upgrade: () => 0,
    socket: (socket) => {
      for (const [id, game] of [[1, 1], [2, 2], [3, 1]]) socket.send(JSON.stringify(round(id, { game_id: game })));
    },
  });
  for (const [seed, initials] of [['each', [1, 2]], [undefined, [1]], ['latest', [1]], ['none', []]]) {
    const [, seen] = start({ url: server.url, transports: ['websocket'], seed });
    await seen.round(3);
    assert.deepEqual(seen.initials, initials, `${seed}`);
  }
});

test('a stream without seed that broke before its first round reports a gap', async () => {
  let opened = 0;
  const server = await serve({
    http: (_, response) => {
      streaming(response);
      if (++opened === 1) setTimeout(() => response.end(), 1100);
    },
  });
  const [, seen] = sse(server.url, { seed: 'none', backoff: { min: 10, max: 10 } });
  await seen.until('a gap', () => seen.gaps.length);
  assert.deepEqual(seen.gaps, [null]);
  assert.equal(opened, 2);
});

test('ids are numbers or strings, zero too, and a round that finishes again comes again', async () => {
  const again = round('a%b:1', { finished_at: '2026-01-17T00:45:43Z' });
  const server = await serve({
    http: ({ url }, response) => {
      if (/after=/.test(url)) return streaming(response);
      streaming(response, event(round(0), 'initial'), event(round('a%b:1')), event(round('a%b:1')), event(again), event(round('0')));
      response.end();
    },
  });
  const [stream, seen] = sse(server.url, { backoff: { min: 1, max: 1 } });
  await seen.until('a resume', () => server.requests.length === 2);
  assert.deepEqual(seen.rounds, [0, 'a%b:1', 'a%b:1', '0']);
  assert.equal(stream.lastRoundId, '0');
  assert.match(server.requests[1].url, /after=0$/);
  const [, zero] = sse(server.url, { after: 0 });
  await zero.connected();
  assert.match(server.requests.at(-1).url, /after=0$/);
  const [, text] = sse(server.url, { after: 'a%b:ü' });
  await text.connected();
  assert.equal(new URL(server.requests.at(-1).url, server.url).searchParams.get('after'), 'a%b:ü');
  const [, absent] = sse(server.url, { after: '' });
  await absent.round(0);
});

test('backoff stays within its limits', async () => {
  const server = await serve({ http: (_, response) => refuse(response, 500, 'broken') });
  const [, seen] = sse(server.url, { backoff: { min: 4, max: 16 } });
  await seen.until('ten delays', () => seen.states.filter(({ delay }) => delay).length >= 10);
  const delays = seen.states.filter(({ delay }) => delay).map(({ delay }) => delay);
  assert.ok(delays[0] <= 4 && Math.max(...delays) <= 16, `${delays}`);
});

test('a listener object is called, and a stream is an EventTarget', async () => {
  const server = await serve({ http: (_, response) => streaming(response, event(round(1), 'initial')) });
  const [stream, seen] = sse(server.url);
  const got = [];
  const listener = { handleEvent: ({ detail }) => got.push(detail.round.round_id) };
  stream.addEventListener('round', listener);
  await seen.round(1);
  assert.deepEqual(got, [1]);
  assert.ok(stream instanceof EventTarget);
});
