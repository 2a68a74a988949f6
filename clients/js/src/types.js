/**
 * What the client takes and gives. Types only: nothing of this is in the file that is served.
 *
 * @module
 */

/** @typedef {'webtransport' | 'websocket' | 'sse'} Transport */
/** @typedef {'connecting' | 'connected' | 'reconnecting' | 'closed'} State */

/**
 * A finished round, as the server sent it.
 *
 * @typedef {object} Round
 * @property {number} round_id unique; also the point to resume after
 * @property {number} game_id
 * @property {string} game_slug
 * @property {string} game_type
 * @property {string} finished_at RFC 3339, UTC
 * @property {string} extras the game's own data, as JSON text
 * @property {number} timestamp unix milliseconds at which the server put it on the stream
 */

/**
 * What to connect to. Without `game`, `type`, `games` and `types`: everything.
 *
 * @typedef {object} Options
 * @property {string | URL} [url] the server; in a page its own origin is the default
 * @property {string} [game] one game, by slug
 * @property {string} [type] all games of a type
 * @property {readonly string[]} [games] several games
 * @property {readonly string[]} [types] several types
 * @property {readonly Transport[]} [transports] which to try, best first
 * @property {number} [after] resume after this `round_id`, instead of starting with the latest round
 * @property {AbortSignal} [signal] closes the stream
 */

/**
 * @typedef {object} RoundDetail
 * @property {Round} round untouched
 * @property {any} extras `round.extras` parsed; `{}` where it is no valid JSON
 * @property {number} latency ms from the server's timestamp to now, by the two clocks
 */

/**
 * @typedef {object} StateDetail
 * @property {State} state
 * @property {Transport | null} transport the one in use
 * @property {number} attempt how often it was tried since it was last connected
 * @property {number} delay ms until the next attempt; `Infinity` while the page is frozen
 * @property {string} reason why the last attempt failed, as far as it is known
 */

/**
 * @typedef {object} GapDetail
 * @property {number | null} after the last `round_id` that is sure to be known: rounds after it may
 *   be missing. `null` where none was known: the connection broke before there was a first round,
 *   and the next one began with a seed
 */

/**
 * @typedef {object} StreamEvents
 * @property {CustomEvent<RoundDetail>} round a round, the seed included
 * @property {CustomEvent<RoundDetail>} initial a seed, before its `round`
 * @property {CustomEvent<StateDetail>} state
 * @property {CustomEvent<GapDetail>} gap
 */

/**
 * An `EventTarget` that knows the events of a stream.
 *
 * @typedef {Omit<EventTarget, 'addEventListener' | 'removeEventListener'> & {
 *   addEventListener<K extends keyof StreamEvents>(type: K,
 *     listener: ((event: StreamEvents[K]) => void) | null,
 *     options?: boolean | AddEventListenerOptions): void,
 *   removeEventListener<K extends keyof StreamEvents>(type: K,
 *     listener: ((event: StreamEvents[K]) => void) | null,
 *     options?: boolean | EventListenerOptions): void,
 * }} StreamTarget
 */

/**
 * How a connection ended.
 *
 * @typedef {object} End
 * @property {number} [code] a close code of the server
 * @property {number} [retryAfter] ms the server asked us to wait
 * @property {string} [reason]
 */

/**
 * What a transport is given: where to go, and whom to tell. It returns, or throws, when its
 * connection has ended.
 *
 * @typedef {object} Connection
 * @property {string} url the server, without a slash at its end
 * @property {string} path the selection: `/crash`, `/type/color` or nothing
 * @property {string} query the rest of the selection and the resume point: `?after=1` or nothing
 * @property {boolean} resumed whether the query names a resume point
 * @property {AbortSignal} signal ends it
 * @property {() => void} opened the server has accepted
 * @property {() => void} heard a sign of life
 * @property {() => void} renew the connection is about used up: a successor should take over
 * @property {() => void} gap the resume point cannot be honored; a seed follows
 * @property {(json: string, how?: { seed?: boolean, loose?: boolean }) => void} round a round; `loose`
 *   where others before it may be missing
 */

export {};
