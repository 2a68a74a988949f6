/**
 * WebSocket: one text message a round.
 *
 * @module
 */
export type Connection = import('./types.js').Connection;
export type End = import('./types.js').End;
/** @typedef {import('./types.js').Connection} Connection */
/** @typedef {import('./types.js').End} End */
/**
 * @param {Connection} connection
 * @returns {Promise<End>}
 */
export declare const websocket: ({ url, path, query, resumed, signal, opened, round }: Connection) => Promise<End>;
