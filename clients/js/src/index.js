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

/**
 * Opens a stream and returns it at once. Its events report what happens.
 *
 * @type {typeof import('../types/index.js').connect}
 */
export const connect = (options) => new Stream(options);
