/** The stream alone: its transports are stand-ins that do what the test says, its clock is the test's. */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect } from '../src/index.js';
// Loaded before the clock stops: the stream imports it when it is needed.
import '../src/webtransport.js';
import { collect } from './collect.js';

/** A WebSocket whose server is the test. */
class Socket extends EventTarget {
  /** All that were made. @type {Socket[]} */
  static all = [];

  constructor(url, protocols) {
    super();
    Object.assign(this, { url, protocols });
    Socket.all.push(this);
  }

  open() {
    this.onopen();
  }

  say(round) {
    this.onmessage({ data: JSON.stringify(round) });
  }

  close(code = 1006) {
    if (this.closed) return;
    this.closed = true;
    this.onclose({ code });
  }
}

/** A WebTransport session whose server is the test. */
class Session {
  /** All that were made. @type {Session[]} */
  static all = [];
  /** Whether the server refuses. */
  static full = false;

  constructor(url) {
    this.url = url;
    this.closed = new Promise((resolve) => {
      this.close = resolve;
    });
    this.ready = Session.full ? Promise.reject(Error('429')) : Promise.resolve();
    this.datagrams = { readable: new ReadableStream({ start: (controller) => (this.controller = controller) }) };
    this.incomingUnidirectionalStreams = new ReadableStream();
    Session.all.push(this);
  }

  say(round) {
    this.controller.enqueue(new TextEncoder().encode(JSON.stringify(round)));
  }
}

const { WebSocket, WebTransport, fetch, document, window } = globalThis;
const real = { WebSocket, WebTransport, fetch, document, window };
const open = [];

beforeEach(() => {
  Socket.all = [];
  Session.all = [];
  Session.full = false;
  globalThis.WebSocket = Socket;
  // A server that would accept: the client asks it why a WebSocket was refused.
  globalThis.fetch = async () => new Response('');
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  open.splice(0).forEach((stream) => stream.close());
  Object.assign(globalThis, real);
});

let servers = 0;
/** Of a server of its own: what worked is remembered by server. */
const start = (options) => {
  const stream = connect({ url: `http://server-${++servers}`, ...options });
  open.push(stream);
  return [stream, collect(stream)];
};

/** All that is due without time passing has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** From here on the clock is the test's. */
const stopClock = () => mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1e12 });

/** Lets time pass, a second at a time. */
const pass = async (seconds, each = () => {}) => {
  for (let second = 1; second <= seconds; second++) {
    mock.timers.tick(1000);
    await settled();
    await each(second);
  }
};

/** A server of event streams alone, that says nothing; returns what it was asked. */
const quietSse = () => {
  const asked = [];
  globalThis.fetch = async (url) => {
    asked.push(url);
    if (!url.includes('/sse')) return new Response('', { status: 404 });
    return new Response(new ReadableStream(), { headers: { 'content-type': 'text/event-stream' } });
  };
  return asked;
};

test('a stream that is closed while it connects stays closed: no other transport is tried', async () => {
  const asked = quietSse();
  const [stream, seen] = start({ game: 'crash', transports: ['websocket', 'sse'] });
  await settled();
  assert.equal(Socket.all.length, 1);
  stream.close();
  await settled();
  assert.equal(stream.state, 'closed');
  assert.equal(seen.states.at(-1).state, 'closed');
  assert.deepEqual(asked, []);
});

for (const [what, end, state] of [
  ['closed', (stream) => stream.close(), 'closed'],
  ['frozen', () => globalThis.document.dispatchEvent(new Event('freeze')), 'reconnecting'],
]) {
  test(`a stream that is ${what} while a better transport is tried lets go of all`, async () => {
    globalThis.document = new EventTarget();
    globalThis.window = new EventTarget();
    stopClock();
    // By chance silence is borne for 45 to 90 s; giving up in the very second of the upgrade would put that off.
    mock.method(Math, 'random', () => 0.5);
    globalThis.WebTransport = class {};
    const asked = quietSse();
    const [stream, seen] = start({ game: 'crash', transports: ['websocket', 'webtransport', 'sse'] });
    await settled();
    Socket.all[0].close();
    await settled();
    assert.equal(stream.transport, 'sse');
    // A minute later the better ones are tried again. The first is still at it when the end comes.
    await pass(61);
    assert.equal(Socket.all.length, 2);
    end(stream);
    await settled();
    assert.equal(asked.filter((url) => url.endsWith('/wt/certificate')).length, 1);
    assert.equal(stream.state, state);
    assert.equal(stream.transport, null);
    assert.deepEqual(seen.states.map((told) => told.state), ['connecting', 'connected', state]);
  });
}

/** Streams by WebSocket, connected, with the sockets they have. */
const streams = async (count, options) => {
  const made = Array.from({ length: count }, () => start({ game: 'crash', transports: ['websocket'], ...options }));
  await settled();
  Socket.all.forEach((socket) => socket.open());
  return made.map(([stream, seen]) => ({ stream, seen }));
};

/** Opens what was made since; each takes the place of the one before it. */
const openNew = (known) => Socket.all.slice(known).forEach((socket) => socket.open());

let rounds = 0;
/** A new round, to all that are connected. */
const finish = () => {
  const round = { round_id: ++rounds, finished_at: '', extras: '{}', timestamp: Date.now() };
  for (const socket of Socket.all) if (!socket.closed) socket.say(round);
};

test('a game with a round a minute keeps its connections', async () => {
  stopClock();
  const clients = 50;
  await streams(clients);
  const made = [];
  await pass(3600, (second) => {
    openNew(clients + made.length);
    while (clients + made.length < Socket.all.length) made.push(second);
    // Two games that finish together are no reason to expect the next round at once.
    if (second % 60 === 0) [finish(), finish()];
  });
  assert.ok(made.length <= clients, `${made.length} connections more`);
  assert.ok(Math.max(...made) < 120, `the last after ${Math.max(...made)} s`);
});

test('where rounds are rare the successors of many clients come spread out, and ever less often', async () => {
  stopClock();
  const clients = 200;
  await streams(clients);
  const bySecond = [];
  let known = clients;
  await pass(3600, () => {
    bySecond.push(Socket.all.length - known);
    openNew(known);
    known = Socket.all.length;
  });
  const first = bySecond.findIndex((count) => count);
  assert.ok(first >= 44, `the first after ${first} s`);
  assert.ok(Math.max(...bySecond) < clients / 10, `${Math.max(...bySecond)} in one second`);
  // In an hour: 45 s to 90 s, twice that, and so on to 10 to 20 min.
  const each = known / clients - 1;
  assert.ok(each >= 4 && each <= 9, `${each} for each`);
});

test('a connection that has died is replaced, the sooner the livelier the game', async () => {
  stopClock();
  const [{ seen }] = await streams(1);
  const before = rounds;
  let known = 1;
  // What a pause of five minutes has taught is forgotten in twenty lively ones.
  await pass(1800, (second) => {
    openNew(known);
    known = Socket.all.length;
    if (second < 300 || second > 600) finish();
  });
  assert.equal(seen.rounds.length, rounds - before);
  let after = 0;
  await pass(100, (second) => {
    if (!after && Socket.all.length > known) after = second;
  });
  assert.ok(after > 44 && after < 92, `${after} s`);
});

/** A server of WebTransport alone. */
const quic = () => {
  globalThis.WebTransport = Session;
  globalThis.fetch = async () => Response.json({ value: null, url: 'https://host/wt' });
};

test('a refused successor leaves a connection that was only to be checked as it is', async () => {
  stopClock();
  quic();
  const [stream, seen] = start({ game: 'crash', transports: ['webtransport'] });
  await settled();
  const [session] = Session.all;
  Session.full = true;
  let id = 0;
  // Ten minutes with 10 rounds a second: checks are due by the clock, and after 2,000 rounds.
  await pass(600, () => {
    for (let round = 0; round < 10; round++) session.say({ round_id: ++id, finished_at: '', extras: '{}', timestamp: id });
  });
  await settled();
  assert.equal(stream.transport, 'webtransport');
  assert.deepEqual(seen.states.map(({ state }) => state), ['connecting', 'connected']);
  assert.equal(seen.rounds.length, id);
  const asked = Session.all.length - 1;
  assert.ok(asked > 3 && asked < 12, `${asked} successors asked for`);
  // There is room again: the next one takes over.
  Session.full = false;
  await pass(121);
  assert.ok(Session.all.length > asked + 1);
  assert.match(Session.all.at(-1).url, /after=1$/);
  assert.deepEqual(seen.states.map(({ state }) => state), ['connecting', 'connected']);
});

test('a refused successor of a connection that has fallen silent ends it', async () => {
  stopClock();
  quic();
  const [stream, seen] = start({ game: 'crash', transports: ['webtransport'] });
  await settled();
  Session.full = true;
  await pass(100);
  assert.equal(stream.transport, null);
  assert.ok(seen.states.some(({ state, reason }) => state === 'reconnecting' && reason === '429'));
});

test('a break while a successor is on its way is told with one delay, and only if that fails', async () => {
  stopClock();
  const [{ stream, seen }] = await streams(1);
  while (Socket.all.length === 1) await pass(1);
  const told = () => seen.states.splice(0).map(({ state, delay }) => [state, delay > 0]);
  told();
  // The one in use breaks; then the successor is refused.
  Socket.all[0].close();
  await settled();
  assert.deepEqual(told(), [['reconnecting', false]]);
  Socket.all[1].close();
  await settled();
  assert.deepEqual(told(), [['reconnecting', true]]);
  await pass(2);
  assert.deepEqual(told(), [['reconnecting', false]]);
  Socket.all[2].open();
  assert.deepEqual(told(), [['connected', false]]);
  assert.equal(stream.transport, 'websocket');
});

/** A stream that was connected to a game without rounds for so long, and lost that connection. */
const lost = async (seconds) => {
  stopClock();
  const [made] = await streams(1);
  await pass(seconds);
  Socket.all[0].close();
  while (Socket.all.length === 1) await pass(1);
  Socket.all[1].open();
  return made;
};

test('rounds that may have finished between two connections without any are a gap after nothing', async () => {
  const { stream, seen } = await lost(3);
  const order = [];
  for (const type of ['gap', 'initial', 'round']) stream.addEventListener(type, () => order.push(type));
  finish();
  assert.deepEqual(seen.gaps, [null]);
  assert.deepEqual(order, ['gap', 'initial', 'round']);
  finish();
  Socket.all[1].close();
  while (Socket.all.length === 2) await pass(1);
  Socket.all[2].open();
  finish();
  assert.deepEqual(seen.gaps, [null]);
});

test('no gap is told where the game was still without a round when the connection was back', async () => {
  const { seen } = await lost(3);
  await pass(10);
  finish();
  assert.equal(seen.rounds.length, 1);
  assert.deepEqual(seen.gaps, []);
});

test('no gap is told where the first connection broke before its seed', async () => {
  const { seen } = await lost(0);
  finish();
  assert.equal(seen.rounds.length, 1);
  assert.deepEqual(seen.gaps, []);
});

test('a gap that the server tells is told once', async () => {
  stopClock();
  const [{ seen }] = await streams(1, { after: 7 });
  await pass(3);
  Socket.all[0].close(4410);
  while (Socket.all.length === 1) await pass(1);
  Socket.all[1].open();
  finish();
  assert.deepEqual(seen.gaps, [7]);
});

test('a server that says closed or not allowed ends the stream for good; any other code does not', async () => {
  stopClock();
  for (const code of [1000, 1008]) {
    Socket.all = [];
    const [{ stream, seen }] = await streams(1);
    Socket.all[0].close(code);
    await settled();
    assert.equal(stream.state, 'closed', `${code}`);
    assert.equal(seen.states.at(-1).state, 'closed');
    await pass(60);
    assert.equal(Socket.all.length, 1);
  }
  for (const code of [1001, 1006, 1009, 1011, 1013, 4410]) {
    Socket.all = [];
    const [{ stream }] = await streams(1);
    Socket.all[0].close(code);
    await pass(60);
    assert.equal(stream.state, 'reconnecting', `${code}`);
    assert.ok(Socket.all.length > 1);
  }
});
