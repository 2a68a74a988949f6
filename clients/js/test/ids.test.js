/** Ids that are text, with characters that have a meaning in URLs, headers and JSON. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { connect } from '../src/index.js';
import { collect } from './collect.js';
import { Database, Server } from './server.js';

globalThis.WebSocket ??= WebSocket;

const ODD = ['a b', '/', '..', 'a/b:c', '100%', '%20', '"quo\'ted\\"', 'ключ é', '\u{1f3b2}', '+&=?#', '12', '-3', 'null', 'x'.repeat(200)];

/** Inserts a round of each id, in a transaction of its own. */
const finish = (database, ids) =>
  database.sql(ids.map((id) => `insert into plays values ('${id.replaceAll("'", "''")}', clock_timestamp(), '{}')`).join(';\n'));

for (const transport of ['websocket', 'sse']) {
  describe(`over ${transport}`, () => {
    let database;
    let server;

    before(async () => {
      database = await Database.start();
      database.command('detach', '--table', 'public.rounds');
      await database.sql('create table plays (key text primary key, at timestamptz, extras jsonb)');
      database.command('attach', '--table', 'plays', '--id', 'key', '--finished-at', 'at', '--index',
        '--slug', 'dice', '--type', 'chance', '--game-id-value', 'odd/game');
      server = await Server.start(database);
    });
    after(async () => {
      await server.stop();
      await database.stop();
    });

    test('ids that are text arrive unchanged, and resume over a restart', async () => {
      const stream = connect({ url: server.url, game: 'dice', transports: [transport] });
      const seen = collect(stream);
      await seen.connected(transport);
      const half = ODD.length / 2;
      await finish(database, ODD.slice(0, half));
      await seen.round(ODD[half - 1]);
      assert.equal(stream.lastRoundId, ODD[half - 1]);
      await server.stop();
      await seen.until('reconnecting', () => stream.state === 'reconnecting');
      await finish(database, ODD.slice(half));
      await server.start();
      await seen.round(ODD.at(-1));
      stream.close();
      assert.deepEqual(seen.rounds, ODD);
      assert.deepEqual(seen.gaps, []);
    });

    test('each can be given as after', async () => {
      for (const [index, after] of ODD.slice(0, -1).entries()) {
        const stream = connect({ url: server.url, game: 'dice', transports: [transport], after });
        const seen = collect(stream);
        await seen.round(ODD.at(-1));
        stream.close();
        // A restarted server may repeat the named round.
        assert.deepEqual(seen.rounds.filter((id) => id !== after), ODD.slice(index + 1));
      }
    });
  });
}
