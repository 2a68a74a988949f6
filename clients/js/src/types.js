/**
 * What the stream and its transports say to each other. Types only: the served file has none of
 * this. The types for users are in `types/`.
 *
 * @module
 */

/** @typedef {import('../types/index.js').Transport} Transport */
/** @typedef {import('../types/index.js').RoundDetail} RoundDetail */
/** @typedef {import('../types/index.js').Round} Round */
/** @typedef {import('../types/index.js').Id} Id */
/** @typedef {import('../types/index.js').State} State */
/** @typedef {import('../types/index.js').Options} Options */

/**
 * How a connection or an attempt ended.
 *
 * @typedef {object} End
 * @property {number} [code] the close code
 * @property {number} [status] the HTTP status of a refusal
 * @property {number} [retryAfter] the milliseconds that the server asked for
 * @property {string} [reason]
 */

/**
 * What a transport gets: where to connect, and what to call. It resolves or rejects when its
 * connection has ended.
 *
 * @typedef {object} Connection
 * @property {string} url the server, without a slash at its end
 * @property {URLSearchParams} query the selection, the seed and the resume point
 * @property {string | null | undefined} token
 * @property {Record<string, string>} headers with the token
 * @property {boolean} resumed whether the query has a resume point
 * @property {AbortSignal} signal ends the connection
 * @property {() => void} opened the server has accepted
 * @property {() => void} alive the connection shows life
 * @property {() => void} renew the connection is nearly used up: a successor should take over
 * @property {() => void} gap the server cannot honor the resume point; a seed follows
 * @property {(json: string, seed?: boolean, loose?: boolean) => void} round a round. `seed` if the
 *   transport marks seeds; `loose` if rounds before it may be missing
 */

/**
 * An attempt by one transport, and the connection that it becomes.
 *
 * @typedef {object} Link
 * @property {Transport} name
 * @property {AbortController} abort
 * @property {number} since when it opened
 * @property {number} active when it last showed life
 * @property {number} life how long its token is valid, from when it came
 * @property {number} renewAt when a successor with a new token is due
 */

export {};
