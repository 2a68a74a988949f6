import { useEffect, useState } from 'react';

/** The server: the one that serves this page, unless the build names another. */
export const url: string = import.meta.env.VITE_DATASTREAM_URL ?? location.origin;

export interface Game {
  id: number | string;
  slug: string;
  name: string;
  type: string;
}

/** The server's games; an empty list until they are known. */
export function useGames(): readonly Game[] {
  const [games, setGames] = useState<readonly Game[]>([]);
  useEffect(() => {
    const controller = new AbortController();
    const load = async () => {
      const response = await fetch(`${url}/games`, { signal: controller.signal });
      setGames((await response.json()) as Game[]);
    };
    load().catch(() => {});
    return () => controller.abort();
  }, []);
  return games;
}
