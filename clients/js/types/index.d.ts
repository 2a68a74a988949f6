/** Finished game rounds as they happen, over WebTransport, WebSocket or server-sent events. */

export type Transport = 'webtransport' | 'websocket' | 'sse';
export type State = 'connecting' | 'connected' | 'reconnecting' | 'closed';

/** A string where the server's ids are no single integer column, or where it was told so. */
export type Id = number | string;

/** A finished round, as the server sent it. */
export interface Round {
  /** Unique. Also the point to resume after. */
  round_id: Id;
  game_id: Id;
  game_slug: string;
  game_type: string;
  /** RFC 3339, UTC. */
  finished_at: string;
  /** The game's own data, as JSON text. */
  extras: string;
  /** Unix milliseconds at which the server published the round, or read it from the database. */
  timestamp: number;
}

/** The detail of `round` and `initial` events. */
export interface RoundDetail<Extras = any> {
  /** The round as the server sent it. */
  round: Round;
  /** `round.extras`, parsed; `{}` if it is no valid JSON. */
  extras: Extras;
  /** Milliseconds from the server's timestamp until now, by the two clocks. */
  latency: number;
}

/** The detail of `state` events. */
export interface StateDetail {
  state: State;
  /** The transport in use, or `null`. */
  transport: Transport | null;
  /** The number of attempts since the last connection that lasted. */
  attempt: number;
  /** Milliseconds until the next attempt; `Infinity` while the page is frozen. */
  delay: number;
  /** The HTTP status with which the server refused the last attempt, or `null`. */
  status: number | null;
  /** The code with which the last connection was closed, or `null`. */
  code: number | null;
  /** Why the last attempt failed, as far as the browser says. */
  reason: string;
}

/** The detail of `gap` events. */
export interface GapDetail {
  /** Rounds after this one may be missing. `null`: any round before the next one may be missing. */
  after: Id | null;
}

/** The detail of `error` events: the reason that ended the stream. */
export interface StreamError extends Error {
  status: number | null;
  code: number | null;
}

/** An event of a stream. In browsers and Node it is a `CustomEvent`. */
export interface StreamEvent<Detail> extends Event {
  readonly detail: Detail;
}

export interface StreamEvents<Extras = any> {
  /** A round; the initial ones, too. */
  round: StreamEvent<RoundDetail<Extras>>;
  /** A round that had finished before the stream began. Its `round` event follows. */
  initial: StreamEvent<RoundDetail<Extras>>;
  state: StreamEvent<StateDetail>;
  gap: StreamEvent<GapDetail>;
  /** The stream has ended and will not reconnect. */
  error: StreamEvent<StreamError>;
}

export interface CommonOptions {
  /** The server's address. In a page the default is its own origin. */
  url?: string | URL;
  /** The transports to try, best first. */
  transports?: readonly Transport[];
  /** Resume after this `round_id` instead of beginning with the latest round. */
  after?: Id | null;
  /** What comes first: the latest round, the latest round of each game, or nothing. */
  seed?: 'latest' | 'each' | 'none';
  /** Begin with this many rounds, oldest first. */
  history?: number;
  /** A token, or a function that returns one. The function is called before every attempt. */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** The delay before a reconnect, in milliseconds. */
  backoff?: { min?: number; max?: number };
  /** Closes the stream. */
  signal?: AbortSignal;
}

/** One game, one type, several games, several types, or everything. */
export type Selection =
  | { game: string; type?: never; games?: never; types?: never }
  | { type: string; game?: never; games?: never; types?: never }
  | { games: readonly string[]; game?: never; type?: never; types?: never }
  | { types: readonly string[]; game?: never; type?: never; games?: never }
  | { game?: never; type?: never; games?: never; types?: never };

export type Options = CommonOptions & Selection;

type Listener<E> = ((event: E) => void) | { handleEvent(event: E): void } | null;
type AnyListener = Parameters<EventTarget['addEventListener']>[1];
type AddOptions = Parameters<EventTarget['addEventListener']>[2];
type RemoveOptions = Parameters<EventTarget['removeEventListener']>[2];

/** Rounds as they finish. `connect` makes it. */
export class Stream<Extras = any> extends EventTarget {
  constructor(options?: Options);
  readonly state: State;
  /** The transport in use, or `null`. */
  readonly transport: Transport | null;
  /** The `round_id` of the last round delivered. */
  readonly lastRoundId: Id | null;
  /** Ends the stream for good. */
  close(): void;
  /**
   * The rounds from now on. Leaving the loop closes the stream. If the stream ends with an `error`,
   * the loop throws it.
   */
  [Symbol.asyncIterator](): AsyncGenerator<RoundDetail<Extras>, void, void>;

  addEventListener<K extends keyof StreamEvents<Extras>>(
    type: K,
    listener: Listener<StreamEvents<Extras>[K]>,
    options?: AddOptions,
  ): void;
  addEventListener(type: string, listener: AnyListener, options?: AddOptions): void;
  removeEventListener<K extends keyof StreamEvents<Extras>>(
    type: K,
    listener: Listener<StreamEvents<Extras>[K]>,
    options?: RemoveOptions,
  ): void;
  removeEventListener(type: string, listener: AnyListener, options?: RemoveOptions): void;
}

/**
 * Opens a stream and returns it at once. Its events report what happens.
 *
 *     const stream = connect<{ point: string }>({ url: 'https://host', game: 'crash' });
 *     stream.addEventListener('round', ({ detail }) => console.log(detail.extras.point));
 *
 * @throws {TypeError} if the selection is contradictory or empty
 */
export function connect<Extras = any>(options?: Options): Stream<Extras>;
