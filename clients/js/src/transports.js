/**
 * The transports, and which of them exist here.
 *
 * @module
 */

import { sse } from './sse.js';
import { websocket } from './websocket.js';

/** @typedef {import('./types.js').Transport} Transport */
/** @typedef {import('./types.js').Connection} Connection */
/** @typedef {import('./types.js').End} End */

/** @type {Record<Transport, (connection: Connection) => Promise<End>>} */
export const TRANSPORTS = {
  // Loaded if it is used: most servers have it off.
  webtransport: async (connection) => (await import('./webtransport.js')).webtransport(connection),
  websocket,
  sse,
};

/** What worked, by server: the next stream of this page starts with it. */
/** @type {Map<string, Transport>} */
export const worked = new Map();

/**
 * Those of the wanted ones that this browser, or Node, has.
 *
 * @param {readonly Transport[]} wanted
 */
export const available = (wanted) => {
  const { WebTransport, WebSocket, fetch } = globalThis;
  const here = { webtransport: WebTransport, websocket: WebSocket, sse: fetch };
  return wanted.filter((name) => here[name]);
};
