/**
 * What happens to the page that a stream lives in.
 *
 * @module
 */
/**
 * Watches until the function it returns is called.
 *
 * @param {object} tell
 * @param {(doubtful: boolean) => void} tell.back
 * @param {() => void} tell.offline
 * @param {() => void} tell.frozen
 */
export declare const watchPage: ({ back, offline, frozen }: {
    back: (doubtful: boolean) => void;
    offline: () => void;
    frozen: () => void;
}) => () => void;
