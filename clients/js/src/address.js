/**
 * Where the server is.
 *
 * @module
 */

/**
 * The server's address without a slash at its end; nothing if it is no address.
 *
 * @param {string | URL} [url]
 */
export const address = (url) => {
  try {
    const { href, protocol } = new URL(url ?? '/', globalThis.location?.href);
    // `localhost:3000` is a URL, too: its scheme is `localhost`.
    if (/^https?:/.test(protocol)) return href.replace(/[?#].*/, '').replace(/\/$/, '');
  } catch {}
  return '';
};

/**
 * What to write instead of a URL that cannot be.
 *
 * @param {string | URL} [url]
 */
export const advice = (url = '') =>
  `cannot connect to the url "${url}". Write "http://${`${url}`.replace(/^\w*:?\/+/, '') || 'localhost:3000'}".`;
