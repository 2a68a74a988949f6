/**
 * The stream: which connection it has, which one it wants, and what it reports.
 *
 * @module
 */

import { address, advice } from './address.js';
import { backoff } from './backoff.js';
import { history } from './history.js';
import { Incoming } from './incoming.js';
import { watchPage } from './page.js';
import { Rounds } from './rounds.js';
import { selection } from './selection.js';
import { probe } from './sse.js';
import { ask, lifetime } from './token.js';
import { available, TRANSPORTS, worked } from './transports.js';

/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').End} End */
/** @typedef {import('./types.js').State} State */
/** @typedef {import('./types.js').Transport} Transport */
/** @typedef {import('./types.js').RoundDetail} RoundDetail */
/** @typedef {import('./types.js').Link} Link */

/** After this the next transport is tried... */
const CONNECT_MS = 2000;
/** ...but the last one gets longer: on a slow link all would fail for ever. */
const CONNECT_LAST_MS = 10000;
/** Three times the server's default heartbeat. */
const SILENCE_MS = 45000;
/** Pages do not see the heartbeats of a WebSocket. In a game with few rounds, silence says nothing. */
const SILENCE_MOST_MS = 600000;
/** A pause this many times the usual one is suspicious. */
const SILENCE_PAUSES = 3;
/** A datagram may be lost: a successor asks for the rounds since, so often at most and at least, and
 * less often while nothing is missing. A handshake costs the server about a millisecond. */
const AUDIT_MS = 5000;
const AUDIT_MOST_MS = 120000;
/** Well below the 10,000 rounds that a server replays at most. */
const AUDIT_ROUNDS = 2000;
/** When to try a better transport again. */
const UPGRADE_MS = 60000;
const UPGRADE_MOST_MS = 900000;
/** A connection that lasted so long was a good one: the backoff starts again. */
const HEALTHY_MS = 5000;
const TICK_MS = 1000;
/** A timer with a delay of 2^31 ms or more fires at once. */
const TIMER_MOST_MS = 2e9;
/** The close codes and statuses after which the same attempt can only fail again. */
const FINAL = [1000, 1008, 400, 403, 404, 414, 431];
const EXPIRED = 4401;
const GAP = 4410;

/** Rounds as they finish. Made by `connect`. */
export class Stream extends EventTarget {
  /** @type {State} */
  #state = 'connecting';
  /** @type {Transport | null} */
  #transport = null;
  /** @type {Options} */
  #options;
  #url;
  #query;
  #order;
  #rounds = new Rounds();
  /** The connection in use. @type {Link | undefined} */
  #link;
  /** All attempts and connections under way. @type {Set<Link>} */
  #links = new Set();
  /** @type {State} */
  #absent = 'connecting';
  #attempt = 0;
  /** How the last attempt ended. @type {End} */
  #end = {};
  /** What ended the stream. @type {Error | undefined} */
  #error;
  /** Runs until the next attempt. @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #ticker;
  /** Whether the last connection had no round. */
  #none = false;
  #frozen = false;
  #trying = false;
  /** How long silence is no reason to reconnect. */
  #silence = SILENCE_MS;
  /** All clients of a game fall silent in the same instant; they must not all reconnect at once. */
  #calm = 1 + Math.random();
  #audit = AUDIT_MS;
  #upgrade = UPGRADE_MS;
  #upgradeAt = 0;
  #auditAt = 0;
  /** `loose` at the last audit. */
  #audited = 0;
  #unwatch;

  /** @param {Options} [options] */
  constructor(options = {}) {
    super();
    const { url, transports, after, seed, signal } = options;
    this.#options = options;
    this.#url = address(url);
    this.#query = selection(options);
    if (seed) this.#query.push(['seed', seed]);
    this.#order = transports ?? /** @type {Transport[]} */ (Object.keys(TRANSPORTS));
    // An empty resume point counts as absent.
    if (after !== '') this.#rounds.sure = after ?? null;
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    this.#unwatch = watchPage({
      back: (doubtful) => this.#back(doubtful),
      offline: () => this.#link?.abort.abort(),
      frozen: () => this.#freeze(),
    });
    signal?.addEventListener('abort', () => this.close());
    if (signal?.aborted) this.close();
    else queueMicrotask(() => (this.#url ? this.#connect() : this.#fail(advice(url))));
  }

  get state() {
    return this.#state;
  }

  get transport() {
    return this.#transport;
  }

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
    this.#report('closed');
  }

  /** @returns {AsyncGenerator<RoundDetail, void, void>} */
  async *[Symbol.asyncIterator]() {
    /** @type {RoundDetail[]} */
    const waiting = [];
    /** @type {(nothing?: void) => void} */
    let wake = () => {};
    const take = (/** @type {any} */ { detail }) => {
      if (detail.round) waiting.push(detail);
      wake();
    };
    for (const type of ['round', 'state']) this.addEventListener(type, take);
    try {
      for (;;) {
        yield* waiting.splice(0);
        if (waiting.length) continue;
        if (this.#error) throw this.#error;
        if (this.#state == 'closed') return;
        await new Promise((/** @type {(nothing: void) => void} */ resolve) => {
          wake = resolve;
        });
      }
    } finally {
      for (const type of ['round', 'state']) this.removeEventListener(type, take);
      this.close();
    }
  }

  /** Tries each transport once. The one that worked before comes first. */
  async #connect() {
    clearTimeout(this.#timer);
    await this.#alone(async () => {
      if (this.#link) return;
      this.#attempt++;
      this.#end = {};
      this.#report(this.#absent);
      const known = worked.get(this.#url);
      const names = available(this.#order).sort((a, b) => Number(b == known) - Number(a == known));
      if (names.length) await this.#try(names);
      else this.#fail(`none of ${this.#order} exists here. Pass other transports.`);
    });
  }

  /** One at a time. At its end there is a connection, or an attempt is due. */
  async #alone(/** @type {() => Promise<unknown>} */ task) {
    if (this.#trying || this.#frozen || this.#state == 'closed') return;
    this.#trying = true;
    await task();
    this.#trying = false;
    if (this.#link) this.#end = {};
    else if (!this.#frozen) this.#wait();
  }

  /**
   * Tries transports until one opens; true if one did.
   *
   * @param {readonly Transport[]} names
   * @param {number} patience with the last one
   */
  async #try(names, patience = CONNECT_LAST_MS) {
    try {
      const token = await ask(this.#options.token);
      /** @type {Record<string, string>} */
      const headers = token ? { authorization: `Bearer ${token}` } : {};
      for (const name of names) {
        if (await this.#open(name, name == names.at(-1) ? patience : CONNECT_MS, token, headers)) return true;
      }
      if (this.#link || this.#end.status || names.includes('sse')) return;
      const signal = AbortSignal.timeout(CONNECT_LAST_MS);
      Object.assign(this.#end, await probe(this.#url, this.#request(), { headers, signal }));
    } catch (error) {
      this.#end.reason = /** @type {Error} */ (error).message;
    }
  }

  #request() {
    const query = new URLSearchParams(this.#query);
    const { sure } = this.#rounds;
    if (sure != null) query.append('after', `${sure}`);
    return query;
  }

  /**
   * Tries one transport; true if it opened, and then it is the one in use. Not if the stream was
   * closed, or the page frozen, meanwhile.
   *
   * @param {Transport} name
   * @param {number} patience
   * @param {string | null | undefined} token
   * @param {Record<string, string>} headers
   * @returns {Promise<boolean>}
   */
  #open(name, patience, token, headers) {
    return new Promise((resolve) => {
      if (this.#frozen || this.#state == 'closed') return resolve(false);
      const { seed, token: source } = this.#options;
      const abort = new AbortController();
      const { signal } = abort;
      const life = typeof source == 'function' ? lifetime(token) : Infinity;
      const renewAt = Date.now() + life * (0.75 + 0.15 * Math.random()) - TICK_MS;
      const link = { name, abort, since: 0, active: 0, life, renewAt };
      const query = this.#request();
      const resumed = query.has('after');
      let fresh = false;

      const ended = (/** @type {End} */ end) => {
        if (!this.#links.delete(link)) return;
        clearTimeout(timer);
        abort.abort();
        resolve(false);
        this.#ended(link, end);
      };
      /** A link that was given up has nothing more to say. */
      const alive = () => this.#links.has(link) && this.#alive(link);
      const incoming = new Incoming(seed, resumed, (round, initial, loose) => {
        const detail = this.#rounds.take(round, loose);
        // By WebSocket the first message counts as a seed, whenever it comes.
        if (detail) this.#deliver(detail, initial, Date.now() - link.since < HEALTHY_MS);
        // A new round before a known one: it was lost on its way, and more may be lost.
        else if (fresh && !loose) this.#audit = Math.max(AUDIT_MS, this.#audit / 4);
        fresh = !!detail;
      });
      /** Without a resume point the stream begins with the history. */
      const begin = async () => {
        const { history: count } = this.#options;
        if (!count || this.#rounds.sure != null) return;
        incoming.hold();
        const past = await history(this.#url, query, count, { headers, signal }).catch(() => undefined);
        if (!this.#links.has(link)) return;
        if (!past) this.#emit('gap', { after: null });
        incoming.release(past ?? []);
      };
      const timer = setTimeout(ended, patience, { reason: `${name} timed out` });
      signal.addEventListener('abort', () => ended({}));
      this.#links.add(link);
      TRANSPORTS[name]({
        url: this.#url,
        query,
        token,
        headers,
        resumed,
        signal,
        opened: () => {
          if (!alive()) return;
          clearTimeout(timer);
          this.#adopt(link);
          resolve(true);
          // No seed will come that could show that rounds finished meanwhile.
          if (this.#none && seed == 'none') this.#gap();
          begin();
        },
        alive,
        renew: () => alive() && this.#renew(true),
        gap: () => {
          if (!alive()) return;
          this.#gap();
          incoming.restart();
          begin();
        },
        round: (json, initial, loose) => alive() && incoming.take(json, initial, loose),
      }).then(ended, ({ message }) => ended({ reason: message }));
    });
  }

  /** Notes that a link shows life, and learns from its pauses. */
  #alive(/** @type {Link} */ link) {
    const now = Date.now();
    const pause = link.active && now - link.active;
    // Forgotten as slowly as time passes: a burst of rounds says nothing of the next pause.
    const silence = Math.max(SILENCE_PAUSES * pause, this.#silence - pause, SILENCE_MS);
    this.#silence = Math.min(silence, SILENCE_MOST_MS);
    link.active = now;
    return true;
  }

  #adopt(/** @type {Link} */ link) {
    const { name } = link;
    const old = this.#link;
    this.#link = link;
    old?.abort.abort();
    link.since = link.active;
    this.#auditAt = link.since + this.#audit;
    worked.set(this.#url, name);
    this.#absent = 'reconnecting';
    this.#end = {};
    if (this.#transport == name) return;
    this.#upgradeAt = link.since + this.#upgrade;
    this.#transport = name;
    this.#report('connected');
  }

  #deliver(/** @type {RoundDetail} */ detail, seed = false, soon = false) {
    // It finished after there was none, and others may have before it.
    if (this.#none && seed && soon) this.#emit('gap', { after: null });
    this.#none = false;
    if (seed) this.#emit('initial', detail);
    this.#emit('round', detail);
  }

  #gap() {
    this.#none = false;
    this.#emit('gap', { after: this.#rounds.sure });
    this.#rounds.sure = null;
  }

  #ended(/** @type {Link} */ link, /** @type {End} */ end) {
    // The last attempt need not be the one that knows why: the reason of a refusal stays beside its status.
    this.#end = this.#end.status ? { ...end, ...this.#end } : { ...this.#end, ...end };
    // A seed comes with the opening.
    if (this.#rounds.sure == null && link.since && Date.now() - link.since > TICK_MS) this.#none = true;
    if (link != this.#link) return;
    this.#link = undefined;
    this.#transport = null;
    if (end.code == GAP) this.#gap();
    if (Date.now() - link.since > HEALTHY_MS) this.#attempt = 0;
    this.#wait();
  }

  /** Waits for the next attempt, unless there is none. */
  #wait() {
    if (this.#state == 'closed') return;
    clearTimeout(this.#timer);
    const { token, backoff: limits } = this.#options;
    const { code = 0, status = 0, retryAfter, reason } = this.#end;
    const refused = status == 401 && typeof token != 'function';
    const final = !this.#trying && (refused || FINAL.includes(code) || FINAL.includes(status));
    if (final) return this.#fail(`${this.#url}: ${reason ?? `closed with ${code}`}`);
    const offline = this.#attempt > 0 && globalThis.navigator?.onLine === false;
    let delay = Math.max(backoff(this.#attempt || 1, limits, offline), retryAfter || 0);
    if (code == EXPIRED && !this.#attempt) delay = Math.random() * TICK_MS;
    // The attempt under way may succeed. If it does not, its end reports the delay.
    if (code == GAP || this.#trying) delay = 0;
    if (this.#frozen) delay = Infinity;
    this.#report(this.#absent, delay);
    if (!this.#trying && !this.#frozen) this.#timer = setTimeout(() => this.#connect(), Math.min(delay, TIMER_MOST_MS));
  }

  /** Checks the connection. By the clock, not by long timers: those stop while a machine sleeps. */
  #tick() {
    const link = this.#link;
    const now = Date.now();
    if (!link || this.#trying) return;
    const { loose } = this.#rounds;
    this.#audited = Math.min(this.#audited, loose);
    if (now - link.active > this.#silence * this.#calm) {
      this.#silence = Math.min(2 * this.#silence, SILENCE_MOST_MS);
      this.#renew(true);
    } else if (now > link.renewAt) {
      link.renewAt = now + link.life / 20;
      this.#renew();
    } else if (loose && (now > this.#auditAt || loose > this.#audited + AUDIT_ROUNDS)) {
      this.#audit = Math.min(2 * this.#audit, AUDIT_MOST_MS);
      this.#auditAt = now + this.#audit;
      this.#audited = loose;
      this.#renew();
    } else if (now > this.#upgradeAt) {
      this.#upgrade = Math.min(2 * this.#upgrade, UPGRADE_MOST_MS);
      this.#upgradeAt = now + this.#upgrade;
      const names = available(this.#order);
      const better = names.slice(0, Math.max(0, names.indexOf(link.name)));
      if (better.length) this.#alone(() => this.#try(better, CONNECT_MS));
    }
  }

  /**
   * A successor takes over, which resumes after the last round that is sure. If it cannot connect,
   * a doubtful connection will not be better; any other stays: the server may be full.
   */
  #renew(doubtful = false) {
    return this.#alone(async () => {
      const link = this.#link;
      if (link && !(await this.#try([link.name])) && doubtful) link.abort.abort();
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

  /** Ends the stream, since no attempt can succeed. */
  #fail(/** @type {string} */ message) {
    const { status = null, code = null } = this.#end;
    this.#error = Object.assign(Error(message), { status, code });
    this.close();
    this.#emit('error', this.#error);
  }

  #report(/** @type {State} */ state, delay = 0) {
    this.#state = state;
    const { status = null, code = null, reason = '' } = this.#end;
    this.#emit('state', { state, transport: this.#transport, attempt: this.#attempt, delay, status, code, reason });
  }

  #emit(/** @type {string} */ type, /** @type {object} */ detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
