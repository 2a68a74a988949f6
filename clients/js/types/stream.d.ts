/**
 * The stream: which connection it has, which it wants, and what it tells.
 *
 * @module
 */
export type Options = import('./types.js').Options;
export type End = import('./types.js').End;
export type State = import('./types.js').State;
export type Transport = import('./types.js').Transport;
export type RoundDetail = import('./types.js').RoundDetail;
export type Link = {
    name: Transport;
    abort: AbortController;
    since: number;
    heard: number;
};
declare const Target: new () => import('./types.js').StreamTarget;
/** Rounds as they finish. Made by `connect`. */
export declare class Stream extends Target {
    #private;
    /** @param {Options} [options] */
    constructor(options?: Options);
    get state(): import("./types.js").State;
    /** The transport in use, `null` while there is none. */
    get transport(): import("./types.js").Transport | null;
    /** The `round_id` of the last round delivered. @returns {number | null} */
    get lastRoundId(): number | null;
    /** Ends the stream for good. */
    close(): void;
    /**
     * The rounds from now on, until the stream is closed. What is not taken waits in memory.
     *
     * @returns {AsyncGenerator<RoundDetail, void, void>}
     */
    [Symbol.asyncIterator](): AsyncGenerator<RoundDetail, void, void>;
}
export {};
