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
export const watchPage = ({ back, offline, frozen }) => {
  const { document, window } = globalThis;
  const watching = new AbortController();
  if (document) {
    const on = (/** @type {EventTarget} */ target, /** @type {string} */ type, /** @type {() => void} */ call) =>
      target.addEventListener(type, call, watching);
    on(window, 'online', () => back(true));
    on(window, 'offline', offline);
    // A page with an open connection is not kept for the back button.
    on(window, 'pagehide', frozen);
    on(window, 'pageshow', () => back(false));
    on(document, 'freeze', frozen);
    on(document, 'resume', () => back(true));
    // Timers of a hidden page run late.
    on(document, 'visibilitychange', () => document.hidden || back(false));
  }
  return () => watching.abort();
};
