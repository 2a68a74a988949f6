/**
 * How long to wait before the next attempt.
 *
 * @module
 */
/**
 * Doubles from 1 s to 30 s, with full jitter: after a restart of the server its clients come back
 * spread out, not all in the same instant.
 *
 * @param {number} attempt the failed attempts so far
 * @param {boolean} [offline] whether the browser says so: then the longest wait, since nothing is
 *   lost by it. Not for ever: browsers err, and `online` ends it
 */
export declare const backoff: (attempt: number, offline?: boolean) => number;
