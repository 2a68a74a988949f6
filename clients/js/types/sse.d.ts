/**
 * Server-sent events, read with `fetch`: unlike `EventSource` it sees heartbeats, so that a dead
 * connection is noticed, and statuses, and it is in Node without a package.
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
export declare const sse: ({ url, path, query, resumed, signal, opened, heard, gap, round }: Connection) => Promise<End>;
