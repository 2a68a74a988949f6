/**
 * The rounds so far: which were delivered, and after which to resume.
 *
 * @module
 */

/** @typedef {import('./types.js').RoundDetail} RoundDetail */
/** @typedef {import('./types.js').Round} Round */
/** @typedef {import('./types.js').Id} Id */

/** A replay has at most 10,000 rounds by the server's default. None of them may count as new. */
const SEEN_MAX = 12000;

/** @param {string} json */
export const parse = (json) => {
  try {
    return JSON.parse(json);
  } catch {
    return {};
  }
};

/** The rounds of one stream. */
export class Rounds {
  /** The last round delivered. @type {Id | null} */
  last = null;
  /** No round up to this one is missing: the point to resume after. @type {Id | null} */
  sure = null;
  /** Rounds since `sure` that came as datagrams: others between them may have been lost. */
  loose = 0;

  /** `round_id` to `finished_at`: a round that finished again is no repeat. */
  #seen = new Map();
  #newest = 0;

  /**
   * Takes a round. Returns what to deliver, or nothing for a repeat.
   *
   * @param {Round} round
   * @param {boolean} [loose]
   * @returns {RoundDetail | undefined}
   */
  take(round, loose) {
    const { round_id: id, finished_at: at = '', timestamp } = round;
    if (loose && this.sure != null) this.loose++;
    else {
      this.sure = id;
      this.loose = 0;
    }
    if (this.#seen.get(id) === at) return;
    this.#seen.set(id, at);
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.keys().next().value);
    // A datagram that was overtaken is not the last one.
    if (!loose || timestamp >= this.#newest) this.last = id;
    this.#newest = Math.max(this.#newest, timestamp);
    return { round, extras: parse(round.extras), latency: Date.now() - timestamp };
  }
}
