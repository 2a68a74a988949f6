/**
 * What is known of the rounds so far: which were delivered, and after which to resume.
 *
 * @module
 */
export type RoundDetail = import('./types.js').RoundDetail;
/** The rounds of one stream. */
export declare class Rounds {
    #private;
    /** The last round delivered. @type {number | null} */
    last: number | null;
    /** No round up to this one is missing: the point to resume after. @type {number | null} */
    sure: number | null;
    /** Rounds since `sure` that came by datagram: others between them may have been lost. */
    loose: number;
    /** @param {number} [after] */
    constructor(after?: number);
    /**
     * Takes a round; returns it ready for delivery, or nothing if it is a repeat or no round at all.
     *
     * @param {string} json
     * @param {boolean} [loose]
     * @returns {RoundDetail | undefined}
     */
    take(json: string, loose?: boolean): RoundDetail | undefined;
}
