/**
 * The rounds of one connection on their way to the listeners.
 *
 * @module
 */

import { parse } from './rounds.js';

/** @typedef {import('./types.js').Round} Round */
/** @typedef {import('./types.js').Options} Options */
/** @typedef {[round: Round, seed?: boolean, loose?: boolean]} Item */

/** Marks the seeds, and lets live rounds wait for the history. */
export class Incoming {
  #each;
  #deliver;
  /** Whether a seed may come, if the transport does not mark seeds. */
  #seeds;
  /** The games that have their seed. */
  #seeded = new Set();
  /** What waits for the history. @type {Item[] | undefined} */
  #held;

  /**
   * @param {Options['seed']} mode
   * @param {boolean} resumed
   * @param {(...item: Item) => void} deliver
   */
  constructor(mode, resumed, deliver) {
    this.#each = mode == 'each';
    this.#seeds = !resumed && mode != 'none';
    this.#deliver = deliver;
  }

  /**
   * Takes a round as it comes.
   *
   * @param {string} json
   * @param {boolean} [seed] if the transport says so
   * @param {boolean} [loose]
   */
  take(json, seed, loose) {
    const round = parse(json);
    if (round.round_id == null) return;
    const game = this.#each && round.game_id;
    seed ??= this.#seeds && !loose && !this.#seeded.has(game);
    this.#seeded.add(game);
    if (this.#held) this.#held.push([round, seed, loose]);
    else this.#deliver(round, seed, loose);
  }

  /** The server starts over: seeds come. */
  restart() {
    this.#seeds = true;
    this.#seeded.clear();
  }

  /** From here on rounds wait. */
  hold() {
    this.#held = [];
  }

  /**
   * Delivers the history, and what waited. Seeds that are older than the history come first.
   *
   * @param {Round[]} past
   */
  release(past) {
    const held = this.#held ?? [];
    const ids = new Set(past.map(({ round_id }) => round_id));
    const older = held.filter(([round, seed]) => seed && !ids.has(round.round_id));
    this.#held = undefined;
    for (const item of older) this.#deliver(...item);
    for (const round of past) this.#deliver(round, true);
    for (const item of held) this.#deliver(...item);
  }
}
