import { useLatest } from 'datastream-client/react';
import { url } from './games';

/** What the crash game writes into its rounds. */
interface Crash {
  point: string;
}

export function Latest({ game }: { game: string }) {
  const { latest } = useLatest<Crash>({ url, game });
  return <p>Latest: {latest ? `${latest.extras.point}×` : '…'}</p>;
}
