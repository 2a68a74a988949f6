/** Which games the page shows. It is in the page's own URL: `?game=crash`, `?type=color`, or several. */

/** @returns {{ games: string[], types: string[] }} */
export const chosen = () => {
  const query = new URLSearchParams(location.search);
  // An empty name would be no selection for the client.
  const named = (key) => query.getAll(key).filter(Boolean);
  return { games: named('game'), types: named('type') };
};

export const isEverything = ({ games, types }) => !games.length && !types.length;

/** The selection as a query, as the server and this page take it. */
export const query = ({ games, types }) =>
  new URLSearchParams([...games.map((name) => ['game', name]), ...types.map((name) => ['type', name])]);

/** Whether a game belongs to the selection. */
export const holds = (selection, { slug, type }) =>
  isEverything(selection) || selection.games.includes(slug) || selection.types.includes(type);

/**
 * What the client is asked for. It takes games or types: for both, the games of the types are named.
 *
 * @param {{ slug: string, type: string }[]} known
 */
export const options = (selection, known) => {
  const { games, types } = selection;
  if (!types.length) return games.length ? { games } : {};
  if (!games.length) return { types };
  const named = known.filter((game) => types.includes(game.type)).map(({ slug }) => slug);
  return { games: [...new Set([...games, ...named])] };
};

/** The selection in words. */
export const inWords = ({ games, types }, names) => {
  const words = [...games.map((slug) => names.get(slug) ?? slug), ...types.map((type) => `type ${type}`)];
  return words.length > 3 ? `${words.length} games and types` : words.join(', ') || 'all games';
};
