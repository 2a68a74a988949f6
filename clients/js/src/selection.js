/**
 * What of a server's rounds is asked for.
 *
 * @module
 */

/** @typedef {import('./types.js').Options} Options */

/**
 * Path and query of what is asked for.
 *
 * @param {Options} options
 * @returns {[path: string, query: [string, string][]]}
 */
export const selection = ({ game, type, games, types }) => {
  // Nothing asked for would be everything.
  if ([game, type, games, types].some((asked) => asked?.length === 0)) throw TypeError('selection is empty');
  if (game) return [`/${encodeURIComponent(game)}`, []];
  if (type) return [`/type/${encodeURIComponent(type)}`, []];
  const named = (/** @type {string} */ key, /** @type {readonly string[]} */ values = []) =>
    values.map((value) => /** @type {[string, string]} */ ([key, value]));
  return ['', [...named('game', games), ...named('type', types)]];
};
