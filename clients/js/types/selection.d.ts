/**
 * What of a server's rounds is asked for.
 *
 * @module
 */
export type Options = import('./types.js').Options;
/** @typedef {import('./types.js').Options} Options */
/**
 * Path and query of what is asked for.
 *
 * @param {Options} options
 * @returns {[path: string, query: [string, string][]]}
 */
export declare const selection: ({ game, type, games, types }: Options) => [path: string, query: [string, string][]];
