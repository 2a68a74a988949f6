/** The stream alone: its transports are stand-ins that do what the test says, its clock is the test's. */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { connect } from '../src/index.js';
import { collect } from './collect.js';

/** A WebSocket whose server is the test. */
class Socket extends EventTarget {
  /** All that were made. @type {Socket[]} */
  static all = [];

  constructor(url) {
    super();
    this.url = url;
    Socket.all.push(this);
  }

  open() {
    this.onopen();
  }

  say(round) {
    this.onmessage({ data: JSON.stringify(round) });
  }

  close(code = 1006) {
    this.onclose({ code });
  }
}

const { WebSocket, WebTransport, fetch, document, window } = globalThis;
const real = { WebSocket, WebTransport, fetch, document, window };
const open = [];

beforeEach(() => {
  Socket.all = [];
  globalThis.WebSocket = Socket;
});
afterEach(() => {
  mock.timers.reset();
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
    globalThis.WebTransport = class {};
    const asked = quietSse();
    const [stream] = start({ game: 'crash', transports: ['websocket', 'webtransport', 'sse'] });
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
  });
}
