/**
 * The real server on a real PostgreSQL, for the tests: a cluster of its own in a temporary folder.
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../../', import.meta.url));
const binary = process.env.DATASTREAM ?? join(root, 'target/debug/datastream');
const WAIT_MS = 20000;

const run = (program, args, options = {}) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...options });

/** initdb and postgres refuse to run as root. */
const user = (() => {
  if (process.getuid() !== 0) return {};
  const id = (flag) => {
    try {
      return Number(run('id', [flag, 'postgres']));
    } catch {
      return Number(run('id', [flag, 'nobody']));
    }
  };
  return { uid: id('-u'), gid: id('-g') };
})();

/** A port that was free a moment ago. */
export const freePort = async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
};

/** A PostgreSQL with the migrations applied and the four sample games. */
export class Database {
  static async start() {
    const bin = run(join(root, 'scripts/postgresql'), [run(join(root, 'scripts/state-dir'), []).trim()]).trim();
    const folder = mkdtempSync(join(tmpdir(), 'datastream-js-'));
    chmodSync(folder, 0o700);
    if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
    const data = join(folder, 'data');
    const options = { ...user, cwd: folder };
    run(join(bin, 'initdb'), ['-D', data, '-U', 'test', '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C'], options);
    const port = await freePort();
    const server = spawn(
      join(bin, 'postgres'),
      ['-D', data, '-p', port, '-k', folder, '-h', '127.0.0.1', '-c', 'fsync=off'],
      { ...options, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const log = createInterface({ input: server.stderr });
    await until('PostgreSQL', log, /database system is ready/);
    server.stderr.resume();
    const database = new Database(bin, folder, server, `postgres://test@127.0.0.1:${port}/postgres`);
    database.command('migrate');
    await database.sql(`insert into public.games (slug, name, type) values
      ('crash', 'Crash', 'multiplier'), ('slot', 'Slot', 'multiplier'),
      ('double', 'Double', 'color'), ('wall-street', 'Wall Street', 'trend') returning id`);
    return database;
  }

  constructor(bin, folder, server, url) {
    Object.assign(this, { folder, server, url });
    const psql = spawn(join(bin, 'psql'), ['-XqAt', '-v', 'ON_ERROR_STOP=1', url], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.psql = psql;
    this.lines = createInterface({ input: psql.stdout })[Symbol.asyncIterator]();
    this.queue = Promise.resolve();
  }

  /** Runs a statement, returns its lines. */
  sql(statement) {
    const answer = this.queue.then(async () => {
      this.psql.stdin.write(`${statement};\n\\echo <end>\n`);
      const lines = [];
      for (;;) {
        const { value, done } = await this.lines.next();
        if (done) throw new Error(`psql ended at: ${statement}`);
        if (value === '<end>') return lines;
        lines.push(value);
      }
    });
    this.queue = answer.catch(() => {});
    return answer;
  }

  /** Runs a command of the program on this database. */
  command(...args) {
    return run(binary, args, { env: { ...process.env, DATABASE_URL: this.url } });
  }

  /** Inserts finished rounds of a game in transactions of one each; returns their ids in order. */
  async rounds(count = 1, game = 'crash', extras = '{"point": "2.00"}') {
    const insert = `insert into public.rounds (game_id, finished_at, extras)
      select id, clock_timestamp(), '${extras.replaceAll("'", "''")}' from public.games where slug = '${game}'
      returning id`;
    const ids = await this.sql(Array(count).fill(insert).join(';\n'));
    return ids.map(Number);
  }

  /** Inserts finished rounds of a game in one statement; returns their ids in order. */
  async together(count, game = 'crash', extras = '{"point": "2.00"}') {
    const ids = await this.sql(`insert into public.rounds (game_id, finished_at, extras)
      select id, clock_timestamp(), '${extras}' from public.games, generate_series(1, ${count})
      where slug = '${game}' returning id`);
    return ids.map(Number);
  }

  async stop() {
    this.psql.stdin.end();
    this.server.kill('SIGQUIT');
    if (this.server.exitCode === null) await once(this.server, 'exit');
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Waits for a line. */
const until = async (who, lines, pattern) => {
  const seen = [];
  const found = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${who} did not start:\n${seen.join('\n')}`)), WAIT_MS);
    lines.on('line', (line) => {
      seen.push(line);
      const match = pattern.exec(line);
      if (!match) return;
      clearTimeout(timer);
      resolve(match);
    });
  });
  return found;
};

/** `datastream serve`; it can be stopped and started again on the same port. */
export class Server {
  static async start(database, flags = []) {
    const server = new Server(database, flags, await freePort());
    await server.start();
    return server;
  }

  constructor(database, flags, port) {
    Object.assign(this, { database, flags, port, url: `http://127.0.0.1:${port}` });
  }

  async start() {
    this.process = spawn(binary, ['serve', '--http-addr', `127.0.0.1:${this.port}`, ...this.flags], {
      cwd: this.database.folder,
      env: { ...process.env, DATABASE_URL: this.database.url, RUST_LOG: 'info' },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const lines = createInterface({ input: this.process.stderr });
    await until('datastream', lines, /listening/);
    await this.ready();
  }

  async ready() {
    const deadline = Date.now() + WAIT_MS;
    while (Date.now() < deadline) {
      const response = await fetch(`${this.url}/readyz`).catch(() => undefined);
      if (response?.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error('the server did not become ready');
  }

  async stop(signal = 'SIGTERM') {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill(signal);
    await once(this.process, 'exit');
  }
}
