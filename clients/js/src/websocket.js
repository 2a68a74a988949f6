/**
 * WebSocket: one text message a round.
 *
 * @module
 */

/** @typedef {import('./types.js').Connection} Connection */
/** @typedef {import('./types.js').End} End */

/**
 * @param {Connection} connection
 * @returns {Promise<End>}
 */
export const websocket = ({ url, path, query, resumed, signal, opened, round }) =>
  new Promise((resolve) => {
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws${path}${query}`);
    let seed = !resumed;
    signal.addEventListener('abort', () => socket.close());
    socket.onopen = opened;
    socket.onmessage = ({ data }) => {
      round(data, { seed });
      seed = false;
    };
    // What went wrong is not told to pages. The listener is for Node's `ws`, which throws without.
    socket.onerror = () => {};
    socket.onclose = ({ code }) => resolve({ code });
  });
