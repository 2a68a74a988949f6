/**
 * Server-sent events, read with `fetch`. Unlike `EventSource` it sees heartbeats, so that it can
 * notice a dead connection, and statuses; and Node has it.
 *
 * @module
 */

import { parse } from './rounds.js';

/** @typedef {import('./types.js').Connection} Connection */
/** @typedef {import('./types.js').End} End */

/**
 * @param {Connection} connection
 * @returns {Promise<End>}
 */
export const sse = async ({ url, query, headers, resumed, signal, opened, alive, gap, round }) => {
  const response = await fetch(`${url}/sse?${query}`, { headers, signal, cache: 'no-store' });
  const { body } = response;
  // The login page of a hotel has status 200, too.
  if (!response.ok || !body || !/^text\/event-stream/.test(response.headers.get('content-type') ?? '')) {
    return refusal(response);
  }
  opened();
  /** @type {End} */
  let end = {};
  let rest = '';
  let event = '';
  let data = '';
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return end;
    alive();
    // A CR at the end may be the first half of a CRLF.
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, field, text] = /^(event|data): ?(.*)/s.exec(line) ?? [];
      if (field == 'event') event = text;
      if (field == 'data') data += text;
      if (line) continue;
      const seed = event == 'initial';
      if (seed && resumed) {
        gap();
        resumed = false;
      }
      if (event == 'bye') end = parse(data);
      else if (data) round(data, seed);
      event = data = '';
    }
  }
};

/**
 * Asks for the status and the reason with which the server refuses. Browsers hide them from a page for
 * WebSocket and WebTransport. HEAD opens no stream, and its answer has no body: GET follows a refusal.
 * Where that fails, the status of HEAD counts. Where it is let in, its stream is given back.
 *
 * @param {string} url
 * @param {URLSearchParams} query
 * @param {RequestInit} init
 * @param {string} [method]
 * @returns {Promise<End>}
 */
export const probe = async (url, query, init, method = 'HEAD') => {
  const response = await fetch(`${url}/sse?${query}`, { ...init, method, cache: 'no-store' });
  if (response.ok) response.body?.cancel();
  else return method == 'GET' ? refusal(response) : probe(url, query, init, 'GET').catch(() => refusal(response));
  return {};
};

/**
 * @param {Response} response
 * @returns {Promise<End>}
 */
const refusal = async (response) => {
  const { status, headers } = response;
  const { detail } = await response.json().catch(() => ({}));
  return { status, retryAfter: 1000 * /** @type {any} */ (headers.get('retry-after')), reason: detail ?? `status ${status}` };
};
