/**
 * What the client takes and gives. Types only: nothing of this is in the file that is served.
 *
 * @module
 */
export type Transport = 'webtransport' | 'websocket' | 'sse';
export type State = 'connecting' | 'connected' | 'reconnecting' | 'closed';
export type Round = {
    /**
     * unique; also the point to resume after
     */
    round_id: number;
    game_id: number;
    game_slug: string;
    game_type: string;
    /**
     * RFC 3339, UTC
     */
    finished_at: string;
    /**
     * the game's own data, as JSON text
     */
    extras: string;
    /**
     * unix milliseconds at which the server put it on the stream
     */
    timestamp: number;
};
export type Options = {
    /**
     * the server; in a page its own origin is the default
     */
    url?: string | URL;
    /**
     * one game, by slug
     */
    game?: string;
    /**
     * all games of a type
     */
    type?: string;
    /**
     * several games
     */
    games?: readonly string[];
    /**
     * several types
     */
    types?: readonly string[];
    /**
     * which to try, best first
     */
    transports?: readonly Transport[];
    /**
     * resume after this `round_id`, instead of starting with the latest round
     */
    after?: number;
    /**
     * closes the stream
     */
    signal?: AbortSignal;
};
export type RoundDetail = {
    /**
     * untouched
     */
    round: Round;
    /**
     * `round.extras` parsed; `{}` where it is no valid JSON
     */
    extras: any;
    /**
     * ms from the server's timestamp to now, by the two clocks
     */
    latency: number;
};
export type StateDetail = {
    state: State;
    /**
     * the one in use
     */
    transport: Transport | null;
    /**
     * how often it was tried since it was last connected
     */
    attempt: number;
    /**
     * ms until the next attempt; `Infinity` while the page is frozen
     */
    delay: number;
    /**
     * why the last attempt failed, as far as it is known
     */
    reason: string;
};
export type GapDetail = {
    /**
     * the last `round_id` that is sure to be known: rounds after it may
     * be missing. `null` where none was known: the connection broke before there was a first round,
     * and the next one began with a seed
     */
    after: number | null;
};
export type StreamEvents = {
    /**
     * a round, the seed included
     */
    round: CustomEvent<RoundDetail>;
    /**
     * a seed, before its `round`
     */
    initial: CustomEvent<RoundDetail>;
    state: CustomEvent<StateDetail>;
    gap: CustomEvent<GapDetail>;
};
export type StreamTarget = Omit<EventTarget, 'addEventListener' | 'removeEventListener'> & {
    addEventListener<K extends keyof StreamEvents>(type: K, listener: ((event: StreamEvents[K]) => void) | null, options?: boolean | AddEventListenerOptions): void;
    removeEventListener<K extends keyof StreamEvents>(type: K, listener: ((event: StreamEvents[K]) => void) | null, options?: boolean | EventListenerOptions): void;
};
export type End = {
    /**
     * a close code of the server
     */
    code?: number;
    /**
     * ms the server asked us to wait
     */
    retryAfter?: number;
    reason?: string;
};
export type Connection = {
    /**
     * the server, without a slash at its end
     */
    url: string;
    /**
     * the selection: `/crash`, `/type/color` or nothing
     */
    path: string;
    /**
     * the rest of the selection and the resume point: `?after=1` or nothing
     */
    query: string;
    /**
     * whether the query names a resume point
     */
    resumed: boolean;
    /**
     * ends it
     */
    signal: AbortSignal;
    /**
     * the server has accepted
     */
    opened: () => void;
    /**
     * a sign of life
     */
    heard: () => void;
    /**
     * the connection is about used up: a successor should take over
     */
    renew: () => void;
    /**
     * the resume point cannot be honored; a seed follows
     */
    gap: () => void;
    /**
     * a round; `loose`
     * where others before it may be missing
     */
    round: (json: string, how?: {
        seed?: boolean;
        loose?: boolean;
    }) => void;
};
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
