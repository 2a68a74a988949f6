/** The page's streams: the one that it shows, and those that only measure. */

import { connect } from '../client.js';

/** A replay comes at once. Later a round that finished before the connect is merely late. */
const REPLAY_WITHIN_MS = 3000;

/**
 * Tells rounds that finished before from those that came live: their latency says nothing.
 *
 * @returns {(round) => 'history' | 'replayed' | 'live'}
 */
const origins = (stream) => {
  let connected = Infinity;
  let initial;
  stream.addEventListener('state', ({ detail }) => {
    if (detail.state === 'connected') connected = Date.now();
  });
  stream.addEventListener('initial', ({ detail }) => {
    initial = detail.round;
  });
  return (round) => {
    if (round === initial) return 'history';
    const soon = Date.now() - connected < REPLAY_WITHIN_MS;
    return soon && Date.parse(round.finished_at) < connected ? 'replayed' : 'live';
  };
};

export class Live {
  #stream;
  #probes = [];
  #transport;
  #on;

  /** @param on `state(detail)`, `gap(detail)`, `failed(error)`, `round(detail, came)`, `measured(transport, latency)` */
  constructor(on) {
    this.#on = on;
  }

  /** The transport in use, or the last one while there is none. */
  get transport() {
    this.#transport = this.#stream?.transport ?? this.#transport;
    return this.#transport;
  }

  get isClosed() {
    return this.#stream?.state === 'closed';
  }

  get lastRoundId() {
    return this.#stream?.lastRoundId;
  }

  /** Shows another selection. Ignores what still comes from the stream before. */
  open(options) {
    this.#stream?.close();
    const stream = connect(options);
    this.#stream = stream;
    const came = origins(stream);
    const listen = (type, take) =>
      stream.addEventListener(type, ({ detail }) => stream === this.#stream && take(detail));
    listen('state', this.#on.state);
    listen('gap', this.#on.gap);
    listen('error', this.#on.failed);
    listen('round', (detail) => this.#on.round(detail, came(detail.round)));
  }

  /** Connects by each of these transports too, to measure. */
  measure(transports, options) {
    for (const probe of this.#probes) probe.close();
    this.#probes = transports.map((transport) => {
      const probe = connect({ ...options, transports: [transport] });
      const came = origins(probe);
      probe.addEventListener('round', ({ detail: { round, latency } }) => {
        const isLive = came(round) === 'live';
        if (isLive && this.transport !== transport) this.#on.measured(transport, latency);
      });
      return probe;
    });
  }
}
