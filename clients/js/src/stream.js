/**
 * The stream: which connection it has, which it wants, and what it tells.
 *
 * @module
 */

import { backoff } from './backoff.js';
import { watchPage } from './page.js';
import { Rounds } from './rounds.js';
import { selection } from './selection.js';
import { sse } from './sse.js';
import { websocket } from './websocket.js';
import { webtransport } from './webtransport.js';

/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').End} End */
/** @typedef {import('./types.js').State} State */
/** @typedef {import('./types.js').Transport} Transport */
/** @typedef {import('./types.js').RoundDetail} RoundDetail */

/** One attempt at one transport, and the connection that it becomes. */
/** @typedef {{ name: Transport, abort: AbortController, since: number, heard: number }} Link */

const TRANSPORTS = { webtransport, websocket, sse };

/** A transport that has not opened by then is passed over... */
const CONNECT_MS = 2000;
/** ...but the last in the row has nothing to lose, and on a slow link all would fail for ever. */
const CONNECT_LAST_MS = 10000;
/** Three times the server's default heartbeat. */
const SILENCE_MS = 45000;
/** A WebSocket does not show its heartbeats: where rounds are rare, silence is no sign of anything. */
const SILENCE_MOST_MS = 600000;
/** So often the usual pause is no pause any more. */
const SILENCE_PAUSES = 3;
/** A datagram may be lost: so often at most, and at least, a successor asks for the rounds since.
 * Less and less often while nothing is missing; a handshake costs the server about a millisecond. */
const AUDIT_MS = 5000;
const AUDIT_MOST_MS = 120000;
/** Well before the 10,000 rounds that a server replays at most. */
const AUDIT_ROUNDS = 2000;
/** When to try a better transport again. */
const UPGRADE_MS = 60000;
const UPGRADE_MOST_MS = 900000;
/** A connection that lasted as long was a good one: the backoff starts anew. */
const HEALTHY_MS = 5000;
const TICK_MS = 1000;
/** The close codes after which there is nothing to come back for: closed, not allowed. */
const FINAL = [1000, 1008];
const GAP = 4410;

/** What worked, by server: the next stream of this page starts with it. */
/** @type {Map<string, Transport>} */
const worked = new Map();

const Target = /** @type {new () => import('./types.js').StreamTarget} */ (
  /** @type {unknown} */ (EventTarget)
);

/** Rounds as they finish. Made by `connect`. */
export class Stream extends Target {
  /** @type {State} */
  #state = 'connecting';
  /** @type {Transport | null} */
  #transport = null;
  #url;
  #path;
  #query;
  #order;
  #rounds;
  /** The connection in use. @type {Link | undefined} */
  #link;
  /** All attempts and connections under way. @type {Set<Link>} */
  #links = new Set();
  /** @type {State} */
  #absent = 'connecting';
  #attempt = 0;
  /** How the last attempt ended. @type {End} */
  #end = {};
  /** While waiting for the next attempt. @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #ticker;
  /** Whether the last connection had no seed, because no round had finished. */
  #none = false;
  #frozen = false;
  #trying = false;
  /** The silence that is borne, as long as the rhythm of the link has it. */
  #silence = SILENCE_MS;
  /** All clients of a game fall silent in the same instant; they must not all ask at once. */
  #calm = 1 + Math.random();
  #audit = AUDIT_MS;
  #upgrade = UPGRADE_MS;
  #upgradeAt = 0;
  #auditAt = 0;
  /** `loose` when a successor was last asked for. */
  #audited = 0;
  #unwatch;

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    const { url, transports, after, signal } = options;
    const base = globalThis.location?.href;
    this.#url = new URL(url ?? '/', base).href.replace(/[?#].*/, '').replace(/\/$/, '');
    [this.#path, this.#query] = selection(options);
    this.#order = transports ?? /** @type {Transport[]} */ (Object.keys(TRANSPORTS));
    this.#rounds = new Rounds(after);
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#unwatch = watchPage({
      back: (doubtful) => this.#back(doubtful),
      offline: () => this.#link?.abort.abort(),
      frozen: () => this.#freeze(),
    });
    signal?.addEventListener('abort', () => this.close());
    if (signal?.aborted) this.close();
    else queueMicrotask(() => this.#connect());
  }

  get state() {
    return this.#state;
  }

  /** The transport in use, `null` while there is none. */
  get transport() {
    return this.#transport;
  }

  /** The `round_id` of the last round delivered. @returns {number | null} */
  get lastRoundId() {
    return this.#rounds.last;
  }

  /** Ends the stream for good. */
  close() {
    if (this.#state == 'closed') return;
    this.#state = 'closed';
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.#unwatch();
    this.#abort();
    this.#transport = null;
    this.#tell('closed');
  }

  /**
   * The rounds from now on, until the stream is closed. What is not taken waits in memory.
   *
   * @returns {AsyncGenerator<RoundDetail, void, void>}
   */
  async *[Symbol.asyncIterator]() {
    /** @type {RoundDetail[]} */
    const waiting = [];
    /** @type {(nothing?: void) => void} */
    let wake = () => {};
    const listening = new AbortController();
    const { signal } = listening;
    this.addEventListener('round', ({ detail }) => {
      waiting.push(detail);
      wake();
    }, { signal });
    this.addEventListener('state', () => wake(), { signal });
    try {
      for (;;) {
        yield* waiting.splice(0);
        if (waiting.length) continue;
        if (this.#state == 'closed') return;
        await new Promise((/** @type {(nothing: void) => void} */ resolve) => {
          wake = resolve;
        });
      }
    } finally {
      listening.abort();
    }
  }

  /** Tries each transport once, what worked before first. */
  async #connect() {
    clearTimeout(this.#timer);
    await this.#alone(async () => {
      if (this.#link) return;
      this.#attempt++;
      this.#end = {};
      this.#tell(this.#absent);
      const known = worked.get(this.#url);
      const names = this.#available().sort((a, b) => Number(b == known) - Number(a == known));
      for (const name of names) {
        const patience = name == names.at(-1) ? CONNECT_LAST_MS : CONNECT_MS;
        if (await this.#open(name, patience)) return;
      }
    });
  }

  /** One at a time; and at its end there is a connection, or an attempt is due. */
  async #alone(/** @type {() => Promise<unknown>} */ task) {
    if (this.#trying || this.#frozen || this.#state == 'closed') return;
    this.#trying = true;
    await task();
    this.#trying = false;
    if (this.#link) this.#end = {};
    else if (!this.#frozen) this.#wait();
  }

  #available() {
    const { WebTransport, WebSocket } = globalThis;
    const here = { webtransport: WebTransport, websocket: WebSocket, sse: fetch };
    return this.#order.filter((name) => here[name]);
  }

  /**
   * Tries one transport; true when it opened, and then it is the one in use. Not if the stream was
   * closed, or the page frozen, while another was tried.
   *
   * @param {Transport} name
   * @param {number} patience
   * @returns {Promise<boolean>}
   */
  #open(name, patience) {
    return new Promise((resolve) => {
      if (this.#frozen || this.#state == 'closed') return resolve(false);
      const abort = new AbortController();
      const link = { name, abort, since: 0, heard: 0 };
      const { sure } = this.#rounds;
      const query = new URLSearchParams(this.#query);
      if (sure != null) query.append('after', `${sure}`);
      let fresh = false;

      const ended = (/** @type {End} */ end) => {
        if (!this.#links.delete(link)) return;
        clearTimeout(timer);
        abort.abort();
        resolve(false);
        this.#ended(link, end);
      };
      /** A link that was given up has nothing more to say. */
      const alive = () => {
        if (!this.#links.has(link)) return false;
        const now = Date.now();
        const pause = link.heard && now - link.heard;
        // Forgotten as slowly as time passes: a burst of rounds says nothing of the next pause.
        const silence = Math.max(SILENCE_PAUSES * pause, this.#silence - pause, SILENCE_MS);
        this.#silence = Math.min(silence, SILENCE_MOST_MS);
        link.heard = now;
        return true;
      };
      const timer = setTimeout(ended, patience, { reason: `${name} timed out` });
      abort.signal.addEventListener('abort', () => ended({}));
      this.#links.add(link);
      TRANSPORTS[name]({
        url: this.#url,
        path: this.#path,
        query: query.size ? `?${query}` : '',
        resumed: sure != null,
        signal: abort.signal,
        opened: () => {
          if (!alive()) return;
          clearTimeout(timer);
          this.#adopt(link);
          resolve(true);
        },
        heard: alive,
        renew: () => alive() && this.#renew(true),
        gap: () => alive() && this.#gap(),
        round: (json, { seed, loose } = {}) => {
          if (!alive()) return;
          const detail = this.#rounds.take(json, loose);
          // By WebSocket the first message counts as a seed, whenever it comes.
          if (detail) this.#deliver(detail, seed, Date.now() - link.since < HEALTHY_MS);
          // A new round before a known one: it was lost on its way, and there may be more of it.
          else if (fresh && !loose) this.#audit = Math.max(AUDIT_MS, this.#audit / 4);
          fresh = !!detail;
        },
      }).then(ended, ({ message }) => ended({ reason: message }));
    });
  }

  #adopt(/** @type {Link} */ link) {
    const { name } = link;
    const old = this.#link;
    this.#link = link;
    old?.abort.abort();
    link.since = link.heard;
    this.#auditAt = link.since + this.#audit;
    worked.set(this.#url, name);
    this.#absent = 'reconnecting';
    this.#end = {};
    if (this.#transport == name) return;
    this.#upgradeAt = link.since + this.#upgrade;
    this.#transport = name;
    this.#tell('connected');
  }

  #deliver(/** @type {RoundDetail} */ detail, seed = false, soon = false) {
    // It finished after there was none, and others may have before it.
    if (this.#none && seed && soon) this.#emit('gap', { after: null });
    this.#none = false;
    if (seed) this.#emit('initial', detail);
    this.#emit('round', detail);
  }

  #gap() {
    this.#emit('gap', { after: this.#rounds.sure });
    this.#rounds.sure = null;
  }

  #ended(/** @type {Link} */ link, /** @type {End} */ end) {
    // The last attempt need not be the one that was told why.
    this.#end = { ...this.#end, ...end };
    // A seed comes with the opening.
    if (this.#rounds.sure == null && link.since && Date.now() - link.since > TICK_MS) this.#none = true;
    if (link != this.#link) return;
    this.#link = undefined;
    this.#transport = null;
    if (FINAL.includes(end.code ?? 0)) return this.close();
    if (end.code == GAP) this.#gap();
    if (Date.now() - link.since > HEALTHY_MS) this.#attempt = 0;
    this.#wait();
  }

  /** Waits for the next attempt. */
  #wait() {
    if (this.#state == 'closed') return;
    clearTimeout(this.#timer);
    const { code, retryAfter, reason } = this.#end;
    const offline = this.#attempt > 0 && globalThis.navigator?.onLine === false;
    let delay = Math.max(backoff(this.#attempt || 1, offline), retryAfter || 0);
    // The attempt under way may do. If it does not, the delay is told at its end.
    if (code == GAP || this.#trying) delay = 0;
    if (this.#frozen) delay = Infinity;
    this.#tell(this.#absent, delay, reason);
    if (!this.#trying && !this.#frozen) this.#timer = setTimeout(() => this.#connect(), delay);
  }

  /** Looks after the connection. By the clock, not by long timers: those stop while a machine sleeps. */
  #tick() {
    const link = this.#link;
    const now = Date.now();
    if (!link || this.#trying) return;
    const { loose } = this.#rounds;
    this.#audited = Math.min(this.#audited, loose);
    if (now - link.heard > this.#silence * this.#calm) {
      this.#silence = Math.min(2 * this.#silence, SILENCE_MOST_MS);
      this.#renew(true);
    } else if (loose && (now > this.#auditAt || loose > this.#audited + AUDIT_ROUNDS)) {
      this.#audit = Math.min(2 * this.#audit, AUDIT_MOST_MS);
      this.#auditAt = now + this.#audit;
      this.#audited = loose;
      this.#renew();
    } else if (now > this.#upgradeAt) {
      this.#upgrade = Math.min(2 * this.#upgrade, UPGRADE_MOST_MS);
      this.#upgradeAt = now + this.#upgrade;
      this.#alone(async () => {
        for (const name of this.#available()) {
          if (name == link.name || (await this.#open(name, CONNECT_MS))) return;
        }
      });
    }
  }

  /**
   * A successor takes over, which resumes where all is known. If none comes up, a connection that
   * was doubtful will not be better; one that was only to be checked stays: the server may be full.
   */
  #renew(doubtful = false) {
    return this.#alone(async () => {
      const link = this.#link;
      if (link && !(await this.#open(link.name, CONNECT_LAST_MS)) && doubtful) link.abort.abort();
    });
  }

  /** The page is back, or the network: a connection that looks open may be dead. */
  #back(/** @type {boolean} */ doubtful) {
    this.#frozen = false;
    if (!this.#link) this.#connect();
    else if (doubtful) this.#renew(true);
  }

  #freeze() {
    const link = this.#link;
    this.#frozen = true;
    this.#abort();
    if (!link) this.#wait();
  }

  #abort() {
    for (const { abort } of this.#links) abort.abort();
  }

  #tell(/** @type {State} */ state, delay = 0, reason = '') {
    this.#state = state;
    const transport = this.#transport;
    this.#emit('state', { state, transport, attempt: this.#attempt, delay, reason });
  }

  #emit(/** @type {string} */ type, /** @type {object} */ detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
