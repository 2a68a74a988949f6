/**
 * How long to wait before the next attempt.
 *
 * @module
 */

/**
 * Doubles from `min` to `max` with full jitter. After a restart of the server its clients come back
 * spread out, not all in the same instant.
 *
 * @param {number} attempt the failed attempts so far
 * @param {{ min?: number, max?: number }} [limits]
 * @param {boolean} [offline] whether the browser is offline: then the longest wait. Browsers err,
 *   so it ends; the `online` event ends it sooner
 */
export const backoff = (attempt, { min = 1000, max = 30000 } = {}, offline = false) =>
  offline ? max : Math.random() * Math.min(max, min * 2 ** (attempt - 1));
