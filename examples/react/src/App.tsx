import { useState } from 'react';
import { Latest } from './Latest';
import { Rounds } from './Rounds';
import { useGames } from './games';

export function App() {
  const games = useGames();
  const [game, setGame] = useState('');
  const [shown, setShown] = useState(true);
  return (
    <main>
      <h1>Finished rounds</h1>
      <label>
        Game{' '}
        <select value={game} onChange={(event) => setGame(event.target.value)}>
          <option value="">all games</option>
          {games.map(({ slug, name }) => (
            <option key={slug} value={slug}>
              {name}
            </option>
          ))}
        </select>
      </label>{' '}
      <button type="button" onClick={() => setShown(!shown)}>
        {shown ? 'Hide' : 'Show'}
      </button>
      {game === 'crash' && <Latest game={game} />}
      {shown && <Rounds {...(game && { game })} />}
    </main>
  );
}
