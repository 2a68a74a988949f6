import { useRounds } from 'datastream-client/react';
import { url } from './games';

/** The last rounds of one game, or of all, newest first. */
export function Rounds({ game }: { game?: string }) {
  const { rounds, state, error } = useRounds<unknown>({ url, history: 20, limit: 20, ...(game ? { game } : {}) });
  return (
    <section aria-label="Rounds" data-state={state}>
      <p role="status">{error ? error.message : state}</p>
      <ol>
        {rounds.map(({ round, extras }) => (
          <li key={`${round.round_id} ${round.finished_at}`}>
            {round.game_slug} {round.round_id}: <code>{JSON.stringify(extras)}</code>
          </li>
        ))}
      </ol>
    </section>
  );
}
