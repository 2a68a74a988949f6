/**
 * Which of a server's rounds the stream asks for.
 *
 * @module
 */

/** @typedef {import('./types.js').Options} Options */

const KEYS = /** @type {const} */ (['game', 'type', 'games', 'types']);

/**
 * The selection as a query. A path could not name the games `.` and `..`: URL parsers resolve those.
 *
 * @param {Options} options
 * @returns {string[][]}
 */
export const selection = (options) => {
  const given = KEYS.filter((key) => key in options);
  if (given.length > 1) throw TypeError(`${given.join(' and ')} contradict each other. Pass one of them.`);
  const [key] = given;
  if (!key) return [];
  const value = options[key];
  const names = key.length > 4 ? value : [value];
  // An empty selection would mean everything.
  const valid = Array.isArray(names) && names.length && names.every((name) => name && typeof name == 'string');
  if (!valid) throw TypeError(`${key} is ${JSON.stringify(value)}. Pass ${key.length > 4 ? 'a list of names' : 'a name'}.`);
  return /** @type {string[]} */ (names).map((name) => [key.slice(0, 4), name]);
};
