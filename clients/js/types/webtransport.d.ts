/**
 * WebTransport: rounds as datagrams; the seed, replays and large rounds on streams.
 *
 * @module
 */
export type Connection = import('./types.js').Connection;
export type End = import('./types.js').End;
/**
 * @param {Connection} connection
 * @returns {Promise<End>}
 */
export declare const webtransport: (connection: Connection) => Promise<End>;
