/**
 * Server-sent events, read with `fetch`: unlike `EventSource` it sees heartbeats, so that a dead
 * connection is noticed, and statuses, and it is in Node without a package.
 *
 * @module
 */

/** @typedef {import('./types.js').Connection} Connection */
/** @typedef {import('./types.js').End} End */

/**
 * @param {Connection} connection
 * @returns {Promise<End>}
 */
export const sse = async ({ url, path, query, resumed, signal, opened, heard, gap, round }) => {
  const response = await fetch(`${url}/sse${path}${query}`, { signal, cache: 'no-store' });
  const { body, headers, status } = response;
  // A login page of a hotel is a 200, too.
  if (status != 200 || !body || !/^text\/event-stream/.test(headers.get('content-type') ?? '')) {
    return refusal(response);
  }
  opened();
  let rest = '';
  let event = '';
  let data = '';
  const reader = body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return {};
    heard();
    // A CR at the end may be the first half of a CRLF.
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const [, field, text] = /^(event|data): ?(.*)/s.exec(line) ?? [];
      if (field == 'event') event = text;
      if (field == 'data') data += text;
      if (line) continue;
      const seed = event == 'initial';
      if (seed && resumed) gap();
      if (data) round(data, { seed });
      event = data = '';
    }
  }
};

/**
 * @param {Response} response
 * @returns {Promise<End>}
 */
const refusal = async (response) => {
  const { detail } = await response.json().catch(() => ({}));
  return {
    retryAfter: 1000 * Number(response.headers.get('retry-after')),
    reason: detail ?? `status ${response.status}`,
  };
};
