/**
 * How long to wait before the next attempt.
 *
 * @module
 */

const FIRST_MS = 1000;
const MOST_MS = 30000;

/**
 * Doubles from 1 s to 30 s, with full jitter: after a restart of the server its clients come back
 * spread out, not all in the same instant.
 *
 * @param {number} attempt the failed attempts so far
 * @param {boolean} [offline] whether the browser says so: then the longest wait, since nothing is
 *   lost by it. Not for ever: browsers err, and `online` ends it
 */
export const backoff = (attempt, offline) =>
  offline ? MOST_MS : Math.random() * Math.min(MOST_MS, FIRST_MS * 2 ** (attempt - 1));
