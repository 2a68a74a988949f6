import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { connect } from '../src/index.js';
import { collect } from './collect.js';
import { Database, Server } from './server.js';

globalThis.WebSocket ??= WebSocket;

let database;
let server;
/** Shows what the server has heard of: a round that is committed may be on its way to it. */
let watch;
let watched;
const open = [];


before(async () => {
  database = await Database.start();
  server = await Server.start(database, ['--heartbeat', '200ms']);
  watched = collect((watch = connect({ url: server.url, transports: ['sse'] })));
  await watched.connected();
});
after(async () => {
  watch?.close();
  await server.stop();
  await database.stop();
});
afterEach(() => open.splice(0).forEach((stream) => stream.close()));

/** Rounds that the server has put on the stream. */
const streamed = async (count) => {
  const ids = await database.rounds(count);
  await watched.round(ids.at(-1));
  return ids;
};

const start = (options) => {
  const stream = connect({ url: server.url, ...options });
  open.push(stream);
  return [stream, collect(stream)];
};

/** The order may differ from the ids' between overlapping transactions, but ours do not overlap. */
const assertEachOnce = (seen, ids) => assert.deepEqual(seen.rounds.filter((id) => ids.includes(id)), ids);

for (const transport of ['websocket', 'sse']) {
  describe(`over ${transport}`, () => {
    const transports = [transport];

    test('the latest round comes first, as initial and as round', async () => {
      const [latest] = await streamed(1);
      const [stream, seen] = start({ game: 'crash', transports });
      await seen.round(latest);
      assert.deepEqual(seen.initials, [latest]);
      assert.deepEqual(seen.rounds, [latest]);
      assert.equal(stream.lastRoundId, latest);
      assert.equal(stream.transport, transport);
    });

    test('a round that finishes comes with its extras parsed and its latency', async () => {
      const [, seen] = start({ game: 'crash', transports });
      await seen.connected(transport);
      const [id] = await database.rounds(1, 'crash', '{"point": "11.72"}');
      await seen.round(id);
      const { round, extras, latency } = seen.details.at(-1);
      assert.deepEqual(Object.keys(round), [
        'round_id', 'game_id', 'game_slug', 'game_type', 'finished_at', 'extras', 'timestamp',
      ]);
      assert.equal(round.extras, '{"point": "11.72"}');
      assert.deepEqual(extras, { point: '11.72' });
      assert.ok(latency >= 0 && latency < 1000, `${latency} ms`);
    });

    test('a burst of 1,000 rounds arrives in order, each once', async () => {
      const [, seen] = start({ game: 'crash', transports });
      await seen.connected(transport);
      const ids = await database.rounds(1000);
      await seen.round(ids.at(-1));
      assertEachOnce(seen, ids);
    });

    test('selections by type, games and types get what they name and nothing else', async () => {
      const [, type] = start({ type: 'multiplier', transports });
      const [, games] = start({ games: ['crash', 'double'], transports });
      const [, types] = start({ types: ['color', 'trend'], transports });
      const [, all] = start({ transports });
      await Promise.all([type, games, types, all].map((seen) => seen.connected()));
      const [crash] = await database.rounds(1, 'crash');
      const [slot] = await database.rounds(1, 'slot');
      const [double] = await database.rounds(1, 'double');
      const [street] = await database.rounds(1, 'wall-street');
      const [last] = await database.rounds(1, 'crash');
      await Promise.all([type, games, all].map((seen) => seen.round(last)));
      await types.round(street);
      const got = (seen) => seen.rounds.filter((id) => id >= crash);
      assert.deepEqual(got(type), [crash, slot, last]);
      assert.deepEqual(got(games), [crash, double, last]);
      assert.deepEqual(got(types), [double, street]);
      assert.deepEqual(got(all), [crash, slot, double, street, last]);
    });

    test('after resumes without a seed', async () => {
      const ids = await streamed(5);
      const [, seen] = start({ game: 'crash', transports, after: ids[1] });
      await seen.round(ids[4]);
      assert.deepEqual(seen.rounds, ids.slice(2));
      assert.deepEqual(seen.initials, []);
    });

    test('a resume point that is gone is a gap, and the stream starts over', async () => {
      const [latest] = await streamed(1);
      const [, seen] = start({ game: 'crash', transports, after: 999999999 });
      await seen.round(latest);
      assert.deepEqual(seen.gaps, [999999999]);
      assert.deepEqual(seen.initials, [latest]);
    });

    test('over a restart of the server each round comes once', async () => {
      const [stream, seen] = start({ game: 'crash', transports });
      await seen.connected(transport);
      const before = await database.rounds(3);
      await seen.round(before.at(-1));
      await server.stop();
      await seen.until('reconnecting', () => stream.state === 'reconnecting');
      const meanwhile = await database.rounds(20);
      await server.start();
      await seen.round(meanwhile.at(-1));
      const later = await database.rounds(3);
      await seen.round(later.at(-1));
      assertEachOnce(seen, [...before, ...meanwhile, ...later]);
      assert.equal(new Set(seen.rounds).size, seen.rounds.length);
      assert.deepEqual(seen.gaps, []);
    });

    test('a server that is killed is found again', async () => {
      const [, seen] = start({ game: 'crash', transports });
      await seen.connected(transport);
      const before = await database.rounds(1);
      await seen.round(before[0]);
      await server.stop('SIGKILL');
      const meanwhile = await database.rounds(2);
      await server.start();
      await seen.round(meanwhile[1]);
      assertEachOnce(seen, [...before, ...meanwhile]);
    });
  });
}

for (const transports of [undefined, ['websocket'], ['sse']]) {
  test(`an unknown game ends the stream with an error that has the status, by ${transports ?? 'any transport'}`, async () => {
    const [stream, seen] = start({ game: 'chess', transports });
    await seen.until('an error', () => seen.errors.length);
    const [error] = seen.errors;
    assert.ok(error instanceof Error);
    assert.equal(error.status, 404);
    assert.equal(stream.state, 'closed');
    const { state, status } = seen.states.at(-1);
    assert.deepEqual({ state, status }, { state: 'closed', status: 404 });
  });
}

test('an unknown game ends a loop with the error', async () => {
  const reading = (async () => {
    for await (const _ of start({ game: 'chess', transports: ['sse'] })[0]);
  })();
  await assert.rejects(reading, /chess/);
});

test('games with names that a path could not hold are selected', async () => {
  const slugs = ['.', '..', 'a/b', 'type', 'dice:eu', 'ü?&#%'];
  for (const slug of slugs) {
    await database.sql(`insert into public.games (slug, name, type) values ('${slug}', 'x', 'path')`);
  }
  for (const transport of ['websocket', 'sse']) {
    for (const slug of slugs) {
      const [, seen] = start({ game: slug, transports: [transport] });
      await seen.connected();
      const [id] = await database.rounds(1, slug);
      await seen.round(id);
      assert.equal(seen.details.at(-1).round.game_slug, slug);
    }
  }
});

test('a refused WebSocket falls back to SSE', async () => {
  const Refused = class {
    constructor() {
      throw new Error('refused');
    }
  };
  const original = globalThis.WebSocket;
  globalThis.WebSocket = Refused;
  try {
    const [, seen] = start({ game: 'crash' });
    await seen.connected('sse');
  } finally {
    globalThis.WebSocket = original;
  }
});

test('a server that accepts and says nothing is left for the next transport', async () => {
  const silent = createServer((request, response) => {
    if (!request.url.startsWith('/sse')) return;
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('event: initial\r\nid: 7\r\ndata: {"round_id":7,"extras":"{}","timestamp":1}\r\n\r');
    response.write('\nevent: message\r\ndata: {"round_id":8,\r\ndata: "extras":"nonsense","timestamp":1}\r\n\r\n');
  }).listen(0, '127.0.0.1');
  silent.on('upgrade', () => {});
  await once(silent, 'listening');
  const [stream, seen] = start({ url: `http://127.0.0.1:${silent.address().port}` });
  await seen.connected('sse');
  await seen.round(8);
  assert.deepEqual(seen.initials, [7]);
  assert.deepEqual(seen.details[1].extras, {});
  stream.close();
  silent.closeAllConnections();
  silent.close();
});

test('a full server is asked again no sooner than it said', async () => {
  const full = createServer((_, response) => {
    response.writeHead(503, { 'retry-after': '7', 'content-type': 'application/problem+json' });
    response.end('{"detail":"the server is full"}');
  }).listen(0, '127.0.0.1');
  await once(full, 'listening');
  const [, seen] = start({ url: `http://127.0.0.1:${full.address().port}`, transports: ['sse'] });
  await seen.until('a delay', () => seen.states.some(({ delay }) => delay > 0));
  assert.deepEqual(seen.states.at(-1), {
    state: 'connecting', transport: null, attempt: 1, delay: 7000, status: 503, code: null, reason: 'the server is full',
  });
  full.close();
});

test('a stream is closed by close and by its signal', async () => {
  const [first, one] = start({ game: 'crash' });
  await one.connected();
  first.close();
  assert.equal(first.state, 'closed');
  assert.equal(first.transport, null);
  assert.equal(one.states.at(-1).state, 'closed');

  const controller = new AbortController();
  const [second, two] = start({ game: 'crash', signal: controller.signal });
  await two.connected();
  controller.abort();
  assert.equal(second.state, 'closed');

  const [third] = start({ signal: AbortSignal.abort() });
  assert.equal(third.state, 'closed');
});

test('for await gives each round, and ends with the stream', async () => {
  const [stream, seen] = start({ game: 'crash' });
  await seen.connected();
  const got = [];
  let ids = [];
  const reading = (async () => {
    for await (const { round } of stream) {
      got.push(round.round_id);
      if (got.includes(ids[9])) stream.close();
    }
  })();
  ids = await database.rounds(10);
  await seen.round(ids[9]);
  stream.close();
  await reading;
  assert.deepEqual(got.filter((id) => ids.includes(id)), ids);
});

test('leaving the loop closes the stream', async () => {
  const [stream, seen] = start({ game: 'crash' });
  await seen.connected();
  const reading = (async () => {
    for await (const { extras } of stream) if (extras.point === '99.99') break;
  })();
  await database.rounds(1, 'crash', '{"point": "99.99"}');
  await reading;
  assert.equal(stream.state, 'closed');
});
