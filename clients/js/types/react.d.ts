/** React hooks: the rounds of a stream as state. */

import type { Options, RoundDetail, State, StreamError } from './index.js';

export interface LatestState<Extras = any> {
  /** The latest round, or `undefined` before the first. */
  latest: RoundDetail<Extras> | undefined;
  state: State;
  /** Why the stream has ended, if it has. */
  error: StreamError | undefined;
}

export interface RoundsState<Extras = any> extends LatestState<Extras> {
  /** Newest first. A round that finished again is in it once. */
  rounds: readonly RoundDetail<Extras>[];
}

export type RoundsOptions = Options & {
  /** How many rounds to keep; 50 by default. */
  limit?: number;
};

/**
 * The latest rounds of a selection, newest first. Options are compared by value: other options open
 * another stream. `null` opens none.
 */
export function useRounds<Extras = any>(options: RoundsOptions | null): RoundsState<Extras>;

/** The latest round of a selection. */
export function useLatest<Extras = any>(options: Options | null): LatestState<Extras>;
