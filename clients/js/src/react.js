/**
 * React hooks: the rounds of a stream as state.
 *
 * @module
 */

import { useCallback, useMemo, useRef, useSyncExternalStore } from 'react';
import { connect } from './index.js';
import { selection } from './selection.js';

/** @typedef {import('../types/index.js').Options} Options */
/** @typedef {import('../types/index.js').RoundDetail} RoundDetail */
/** @typedef {import('../types/react.js').RoundsState} RoundsState */
/** @typedef {import('../types/react.js').RoundsOptions} RoundsOptions */

const LIMIT = 50;

/** @type {RoundsState} */
const NOTHING = Object.freeze({ rounds: Object.freeze([]), latest: undefined, state: 'connecting', error: undefined });
/** @type {RoundsState} */
const CLOSED = Object.freeze({ ...NOTHING, state: 'closed' });

/**
 * One render a frame at most, however many rounds come. A hidden page has no frames: it renders once
 * it is seen again.
 *
 * @param {() => void} task
 */
const nextFrame = (task) => {
  if (typeof requestAnimationFrame == 'function') {
    const frame = requestAnimationFrame(task);
    return () => cancelAnimationFrame(frame);
  }
  const timer = setTimeout(task, 16);
  return () => clearTimeout(timer);
};

/** What one stream has brought so far: a store for `useSyncExternalStore`. */
class Store {
  /** What React sees. @type {RoundsState} */
  snapshot = NOTHING;
  /** What comes next. @type {RoundsState} */
  #next = NOTHING;
  /** @type {(() => void) | undefined} */
  #cancel;
  /** @type {() => void} */
  #changed = () => {};

  /**
   * @param {() => Options} options
   * @param {number} limit
   */
  constructor(options, limit) {
    this.options = options;
    this.limit = limit;
  }

  /**
   * Connects; returns what disconnects.
   *
   * @param {() => void} changed
   */
  open(changed) {
    this.#changed = changed;
    const stream = connect(this.options());
    // StrictMode, and a component that is shown again, open the same store twice.
    this.#set(() => NOTHING);
    stream.addEventListener('state', ({ detail: { state } }) => this.#set((now) => ({ ...now, state })));
    stream.addEventListener('error', ({ detail: error }) => this.#set((now) => ({ ...now, error })));
    stream.addEventListener('round', ({ detail }) => this.#set((now) => ({ ...now, ...this.#with(detail, now) })));
    return () => {
      this.#cancel?.();
      this.#cancel = undefined;
      this.#changed = () => {};
      stream.close();
    };
  }

  /**
   * Newest first. A datagram that was lost comes late: it takes its place.
   *
   * @param {RoundDetail} detail
   * @param {RoundsState} now
   */
  #with(detail, { rounds }) {
    const { round_id: id, finished_at: finished } = detail.round;
    const at = Date.parse(finished);
    // A round that finished again leaves its place: two elements with its key would be an error.
    const list = rounds.filter(({ round }) => round.round_id !== id);
    let place = 0;
    while (place < list.length && Date.parse(list[place].round.finished_at) > at) place++;
    list.splice(place, 0, detail);
    list.length = Math.min(list.length, this.limit);
    return { rounds: list, latest: list[0] };
  }

  /** @param {(now: RoundsState) => RoundsState} change */
  #set(change) {
    this.#next = change(this.#next);
    this.#cancel ??= nextFrame(() => {
      this.#cancel = undefined;
      this.snapshot = this.#next;
      this.#changed();
    });
  }
}

const nothing = () => NOTHING;
const closed = () => CLOSED;
const never = () => () => {};

/**
 * @type {typeof import('../types/react.js').useRounds}
 */
export const useRounds = (options) => {
  // A wrong selection fails where the component can be blamed for it, on a server, too.
  if (options) selection(options);
  const { signal, token, limit = LIMIT, ...rest } = options ?? /** @type {RoundsOptions} */ ({});
  // Another token function is no reason to reconnect: the next attempt asks it.
  const source = useRef(token);
  source.current = token;
  const key = JSON.stringify([rest, limit, typeof token == 'function' || token, !options]);
  const store = useMemo(() => {
    if (!options) return;
    const current = () => (typeof source.current == 'function' ? source.current() : source.current);
    const asked = typeof token == 'function' ? current : token;
    return new Store(() => /** @type {Options} */ ({ ...rest, signal, token: asked }), limit);
  }, [key, signal]);
  const subscribe = useCallback((/** @type {() => void} */ changed) => (store ? store.open(changed) : never()), [store]);
  const snapshot = useCallback(() => store?.snapshot ?? CLOSED, [store]);
  return useSyncExternalStore(subscribe, snapshot, options ? nothing : closed);
};

/**
 * @type {typeof import('../types/react.js').useLatest}
 */
export const useLatest = (options) => {
  const { latest, state, error } = useRounds(options && { ...options, limit: 1 });
  return { latest, state, error };
};
