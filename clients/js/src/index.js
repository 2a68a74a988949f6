/**
 * Rounds as they finish, over the best transport there is.
 *
 *     const stream = connect({ url: 'https://host', game: 'crash' });
 *     stream.addEventListener('round', ({ detail }) => console.log(detail.extras));
 *
 * @module
 */

import { Stream } from './stream.js';

export { Stream };

/** @typedef {import('./types.js').Options} Options */
/** @typedef {import('./types.js').Round} Round */
/** @typedef {import('./types.js').RoundDetail} RoundDetail */
/** @typedef {import('./types.js').StateDetail} StateDetail */
/** @typedef {import('./types.js').GapDetail} GapDetail */
/** @typedef {import('./types.js').State} State */
/** @typedef {import('./types.js').Transport} Transport */

/**
 * Opens a stream. Returns at once: what becomes of it is told by events.
 *
 * @param {Options} [options]
 * @returns {Stream}
 */
export const connect = (options) => new Stream(options);
