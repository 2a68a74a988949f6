// The real binary on its own ports, and the game that writes rounds.

import { execFileSync, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { get } from 'node:https';
import { createInterface } from 'node:readline';

const { DATASTREAM, DATABASE_URL, PSQL } = process.env;

/** Runs SQL as the game would; what it returns, as text. */
export function sql(text) {
  return execFileSync(PSQL, ['-XqtA', '-v', 'ON_ERROR_STOP=1', '-d', 'play', '-c', text]).toString().trim();
}

/** Inserts finished rounds; their ids. */
export function finish(game, count = 1, extras = '{"point": "2.00"}') {
  const rows = `select id, now(), '${extras}'::jsonb from games, generate_series(1, ${count}) where slug = '${game}'`;
  return sql(`insert into rounds (game_id, finished_at, extras) ${rows} returning id`).split('\n').map(Number);
}

export class Server {
  /** Starts it and waits until it is ready. */
  static async start(env = {}) {
    const server = new Server();
    const settings = {
      PATH: process.env.PATH, NO_COLOR: '1', DATABASE_URL,
      DATASTREAM_HTTP_ADDR: '127.0.0.1:0', DATASTREAM_WT_ENABLED: 'true', DATASTREAM_WT_ADDR: '[::]:0', ...env,
    };
    server.log = [];
    server.process = spawn(DATASTREAM, ['serve'], { env: settings, cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
    server.ended = new Promise((resolve) => server.process.on('exit', resolve));
    createInterface({ input: server.process.stderr }).on('line', (line) => server.log.push(line));
    const port = async (field) => Number((await server.logged(new RegExp(`${field}=\\S*:(\\d+)`)))[1]);
    const number = await port('http\\.addr');
    if (settings.DATASTREAM_WT_ENABLED === 'true') server.port = await port('wt\\.addr');
    if (env.DATASTREAM_TLS_CERT) {
      server.http = `https://127.0.0.1:${number}`;
      const ca = readFileSync(env.DATASTREAM_TLS_CERT);
      await eventually('readiness', async () => (await status(`${server.http}/readyz`, ca)) === 200);
    } else {
      server.http = `http://127.0.0.1:${number}`;
      await eventually('readiness', async () => (await fetch(`${server.http}/readyz`)).ok);
    }
    return server;
  }

  /** Waits for a line of the log. */
  logged(pattern) {
    return eventually(`a log line like ${pattern}`, () => this.log.map((line) => line.match(pattern)).find(Boolean));
  }

  certificate() {
    return fetch(`${this.http}/wt/certificate`).then((answer) => answer.json());
  }

  /** Finishes rounds and waits until the last is what newcomers are given; their ids. */
  async latest(game, count) {
    const ids = finish(game, count);
    await eventually(`${ids.at(-1)} to be the latest`, async () => {
      const round = await (await fetch(`${this.http}/rounds/${game}/latest`)).json();
      return round.round_id === ids.at(-1);
    });
    return ids;
  }

  async metric(name) {
    const text = await (await fetch(`${this.http}/metrics`)).text();
    const line = text.split('\n').find((one) => one.startsWith(`${name} `));
    return line ? Number(line.split(' ')[1]) : 0;
  }

  async stop() {
    this.process.kill('SIGTERM');
    return this.ended;
  }
}

/** The status of a page whose certificate is of this authority: `fetch` has no option for one. */
const status = (url, ca) => new Promise((resolve, reject) => {
  get(url, { ca }, (answer) => { answer.resume(); resolve(answer.statusCode); }).on('error', reject);
});

/** Looks again and again until there is something. */
export async function eventually(what, look, limit = 15000) {
  for (const end = Date.now() + limit; Date.now() < end; ) {
    const found = await Promise.resolve().then(look).catch(() => undefined);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited ${limit} ms for ${what}`);
}
