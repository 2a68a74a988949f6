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
export const websocket = ({ url, query, token, signal, opened, round }) =>
  new Promise((resolve) => {
    // Pages cannot set headers: the token travels as a subprotocol.
    const protocols = token ? ['datastream', `bearer.${token}`] : [];
    const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws?${query}`, protocols);
    signal.addEventListener('abort', () => socket.close());
    socket.onopen = opened;
    socket.onmessage = ({ data }) => round(data);
    // Pages do not learn what went wrong. The listener is for Node's `ws`, which throws without one.
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => resolve(reason ? { code, reason } : { code });
  });
