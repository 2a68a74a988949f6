/**
 * What is known of the rounds so far: which were delivered, and after which to resume.
 *
 * @module
 */

/** @typedef {import('./types.js').RoundDetail} RoundDetail */

/** A replay is at most 10,000 rounds by the server's default: none of them may count as new. */
const SEEN_MAX = 12000;

/** @param {string} json */
const parse = (json) => {
  try {
    return JSON.parse(json);
  } catch {
    return {};
  }
};

/** The rounds of one stream. */
export class Rounds {
  /** The last round delivered. @type {number | null} */
  last = null;
  /** No round up to this one is missing: the point to resume after. @type {number | null} */
  sure;
  /** Rounds since `sure` that came by datagram: others between them may have been lost. */
  loose = 0;

  /** `round_id` to `finished_at`: a round that is finished anew is no repeat. */
  #seen = new Map();
  #newest = 0;

  /** @param {number} [after] */
  constructor(after) {
    this.sure = after ?? null;
  }

  /**
   * Takes a round; returns it ready for delivery, or nothing if it is a repeat or no round at all.
   *
   * @param {string} json
   * @param {boolean} [loose]
   * @returns {RoundDetail | undefined}
   */
  take(json, loose) {
    const round = parse(json);
    const { round_id: id, finished_at: at = '', timestamp } = round;
    if (!id) return;
    if (loose && this.sure != null) this.loose++;
    else this.#settle(id);
    if (this.#seen.get(id) === at) return;
    this.#seen.set(id, at);
    if (this.#seen.size > SEEN_MAX) this.#seen.delete(this.#seen.keys().next().value);
    // A datagram that was overtaken is not the last.
    if (!loose || timestamp >= this.#newest) this.last = id;
    this.#newest = Math.max(this.#newest, timestamp);
    return { round, extras: parse(round.extras), latency: Date.now() - timestamp };
  }

  /** @param {number} id */
  #settle(id) {
    this.sure = id;
    this.loose = 0;
  }
}
