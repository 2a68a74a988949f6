/**
 * WebTransport: rounds as datagrams; the seed, replays and large rounds on streams.
 *
 * @module
 */

/** @typedef {import('./types.js').Connection} Connection */
/** @typedef {import('./types.js').End} End */

/** Chromium and Firefox keep one datagram until it is read: the page would lose a burst. */
const DATAGRAMS_KEPT = 1024;
/** The server sends datagrams once the client has acknowledged the seed or the replay. If no stream
 * is there by then, none was needed. The browser may report the two in another order, but not much
 * later. */
const OPENING_MS = 100;
/** Safari may stop in the middle of a stream: live rounds do not wait for it any longer. */
const OPENING_MOST_MS = 5000;
/** Firefox lets a server open 100 streams in all; a successor takes over before. */
const STREAMS_MAX = 64;
/** Turns of the microtask queue within which a datagram that has arrived already is read. */
const TURNS = 8;

/**
 * @param {Connection} connection
 * @returns {Promise<End>}
 */
export const webtransport = async (connection) => {
  const session = await begin(connection);
  const { signal } = connection;
  // Closing a closed session throws.
  const close = () => {
    try {
      session.close();
    } catch {}
  };
  signal.addEventListener('abort', close);
  session.ready.catch(close);
  // Pages do not learn how a session ended (a `bye` says it): both outcomes are alike.
  const closed = session.closed.then(close, close);
  Object.assign(session.datagrams, {
    incomingHighWaterMark: DATAGRAMS_KEPT,
    incomingMaxBufferedDatagrams: DATAGRAMS_KEPT,
  });
  await session.ready;
  if (signal.aborted) close();
  else connection.opened();
  return read(session, connection, closed);
};

/**
 * @param {Connection} connection
 * @returns {Promise<WebTransport>}
 */
const begin = async ({ url, query, token, signal }) => {
  const response = await fetch(`${url}/wt/certificate`, { signal, cache: 'no-store' });
  if (!response.ok) throw Error('no WebTransport on this server');
  const { algorithm, value, next, url: base } = await response.json();
  const hash = (/** @type {string} */ text) => ({
    algorithm,
    value: Uint8Array.from(atob(text), (char) => char.charCodeAt(0)),
  });
  // Browsers cannot set headers here. The token is in no other URL: the history has this query, too.
  const search = new URLSearchParams(query);
  if (token) search.append('token', token);
  return new WebTransport(`${base}?${search}`, {
    // The browser itself checks a certificate of a CA.
    ...(value && { serverCertificateHashes: [value, next].filter(Boolean).map(hash) }),
  });
};

/**
 * Reads a session until it ends.
 *
 * @param {WebTransport} session
 * @param {Connection} connection
 * @param {Promise<void>} closed
 * @returns {Promise<End>}
 */
const read = async (session, { alive, gap, round, renew }, closed) => {
  /** @type {End} */
  let end = {};
  let streams = 0;
  let open = false;
  let turns = 0;
  /** @type {string[]} */
  let batch = [];

  /** Hands on what came as datagrams, in the order in which the server sent it. */
  const flush = () => {
    const waiting = batch.map((json) => /** @type {const} */ ([stamp(json), json]));
    batch = [];
    for (const [, json] of waiting.sort(([a], [b]) => a - b)) round(json, false, true);
  };
  const settle = () => {
    if (++turns < TURNS) queueMicrotask(settle);
    else flush();
  };
  const begun = () => {
    open = true;
    flush();
  };
  setTimeout(() => streams || begun(), OPENING_MS);
  setTimeout(begun, OPENING_MOST_MS);

  /** @param {string} line */
  const take = (line) => {
    const control = /^{"type":"(\w+)"/.exec(line)?.[1];
    if (control == 'gap') gap();
    else if (control == 'bye') end = JSON.parse(line);
    else if (line) round(line, undefined, open);
    return control;
  };

  const datagrams = each(session.datagrams.readable, (bytes) => {
    alive();
    batch.push(decode(bytes));
    if (!open) return;
    if (batch.length == 1) queueMicrotask(settle);
    turns = 0;
  });
  const others = each(session.incomingUnidirectionalStreams, async (stream) => {
    if (++streams == STREAMS_MAX) renew();
    let rest = '';
    let last;
    const decoder = new TextDecoder();
    await each(stream, (bytes) => {
      alive();
      const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) last = take(line);
    });
    // After a gap a seed follows, on another stream; unless there is none.
    if ((take(rest) ?? last) == 'gap') setTimeout(begun, OPENING_MS);
    else begun();
  });
  await Promise.race([closed, Promise.all([datagrams, others])]);
  flush();
  return end;
};

/**
 * Calls `take` for each chunk, without waiting for it. A stream that breaks has ended.
 *
 * @template T
 * @param {ReadableStream<T>} stream
 * @param {(chunk: T) => unknown} take
 */
const each = async (stream, take) => {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      take(/** @type {T} */ (value));
    }
  } catch {}
};

const decode = (/** @type {Uint8Array} */ bytes) => new TextDecoder().decode(bytes);

/** @param {string} json */
const stamp = (json) => Number(/(\d+)}$/.exec(json)?.[1]);
