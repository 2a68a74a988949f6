/**
 * Rounds that finished before the stream began, from `/rounds`.
 *
 * @module
 */

/** @typedef {import('./types.js').Round} Round */

/** The server's largest page. */
const PAGE_MAX = 1000;

/**
 * The last rounds of the selection, oldest first.
 *
 * @param {string} url
 * @param {URLSearchParams} query
 * @param {number} count
 * @param {RequestInit} init
 * @returns {Promise<Round[]>}
 */
export const history = async (url, query, count, init) => {
  /** @type {Round[]} */
  const rounds = [];
  let next = `?${query}&limit=${Math.min(count, PAGE_MAX)}`;
  while (next && rounds.length < count) {
    const response = await fetch(`${url}/rounds${next}`, init);
    if (!response.ok) throw Error();
    rounds.push(...(await response.json()));
    // Only the query: a proxy may have put the server below another path.
    [, next = ''] = /<[^>]*?(\?[^>]*)>; rel="next"/.exec(response.headers.get('link') ?? '') ?? [];
  }
  return rounds.slice(0, count).reverse();
};
