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
    const { href } = new URL(url ?? '/', globalThis.location?.href);
    // `localhost:3000` is a URL, too: its scheme is `localhost`. `fetch` refuses a user and a password.
    if (/^https?:\/\/[^@/]*\//.test(href)) return href.replace(/\/?([?#].*)?$/, '');
  } catch {}
  return '';
};

/**
 * What to write instead of a URL that cannot be.
 *
 * @param {string | URL} [url]
 */
export const advice = (url = '') => {
  const better = `${url}`.replace(/^((http|ws)(s)?:|\w+:)?\/+(.*@)?|^/, 'http$3://');
  return `cannot connect to the url "${url}". Write "${address(better) ? better : 'http://localhost:3000'}".`;
};
