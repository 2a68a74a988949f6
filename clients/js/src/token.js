/**
 * The token that opens a stream.
 *
 * @module
 */

/** @typedef {import('./types.js').Options} Options */

const WAIT_MS = 10000;

/**
 * Asks for the token.
 *
 * @param {Options['token']} token
 */
export const ask = async (token) => {
  if (typeof token != 'function') return token;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(reject, WAIT_MS, Error('no token within 10 s'));
  });
  try {
    return await /** @type {Promise<string | null | undefined>} */ (Promise.race([token(), late]));
  } finally {
    clearTimeout(timer);
  }
};

/**
 * How long a token will be valid, in milliseconds. The clocks of the issuer and of this machine may
 * differ, so the shorter of two readings counts.
 *
 * @param {string | null | undefined} token
 */
export const lifetime = (token) => {
  try {
    const payload = /** @type {string} */ (token).split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
    const { exp, iat } = JSON.parse(atob(payload));
    return 1000 * Math.min(...[exp - iat, exp - Date.now() / 1000].filter((life) => life > 0));
  } catch {
    return Infinity;
  }
};
