/** The live page. It knows the server by `/client.js`, `/games` and `/rounds` alone. */

import { Banner, currentToken } from './banner.js';
import { Cards } from './cards.js';
import { asCurl, Debugger } from './debug.js';
import { $, element, entryOf } from './elements.js';
import { Figures } from './figures.js';
import { Games } from './games.js';
import { List } from './list.js';
import { Live } from './live.js';
import { NAMES } from './plot.js';
import { Recent } from './recent.js';
import { chosen, holds, inWords, isEverything, options, query } from './selection.js';
import * as server from './transports.js';
import { find, Whole } from './whole.js';

const HISTORY = 50;
const AWAY_MS = 10_000;
/** Above this rate nobody sees a fade. */
const FADE_RATE_MAX = 5;
/** Nobody reads faster than that: a render follows the one before it after so long at least. */
const FRAME_MS = [[20, 250], [FADE_RATE_MAX, 100], [0, 0]];

/** Browsers have WebTransport on pages from HTTPS or localhost alone. */
const transports = server.OFFERED.filter((name) => name !== 'webtransport' || 'WebTransport' in window);
const here = new URL('.', location.href);
const href = (given) => `?${given}`;

let selection = chosen();
/** The selection as it was connected. */
let connected;
let rate = 0;
let lastFrame = 0;
/** Whether the round in the address waits for a token. */
let isRoundPending = false;
let scheduled = false;

const recent = new Recent();
const figures = new Figures();
const list = new List($('rounds'), (round) => href(roundQuery(round)));
const cards = new Cards($('games'), ({ slug, type }) => href(query(slug === undefined ? { games: [], types: [type] } : { games: [slug], types: [] })));
const games = new Games(here, () => showGames());
const banner = new Banner({ token: () => useToken(), retry: () => (live.isClosed ? restart() : window.dispatchEvent(new Event('online'))) });
const debug = new Debugger(() => asCurl(here, query(selection), live.lastRoundId ?? undefined));
const whole = new Whole({
  link: (round) => new URL(href(roundQuery(round)), location.href).href,
  curl: ({ game_slug: slug, round_id: id }) => asCurl(here, query({ games: [slug], types: [] }), id),
  closed: () => leaveRound(),
});

const roundQuery = ({ game_slug: slug, round_id: id }) => {
  const named = query({ games: [slug], types: [] });
  named.set('round', id);
  return named;
};

const live = new Live({
  state: (detail) => showState(detail),
  gap: ({ after }) => {
    recent.addGap(after);
    debug.event('gap', after === null ? 'rounds may be missing' : `rounds after ${after} may be missing`);
    changed();
  },
  failed: (error) => {
    banner.failed(error);
    debug.event('error', error.message);
    changed();
  },
  round: ({ round, extras, latency }, came) => {
    const entry = { round, extras, latency, came };
    games.sawRound(round);
    cards.take(entry);
    const isListed = recent.add(entry);
    if (came === 'live') figures.live(live.transport, latency);
    else if (isListed) figures.past(round);
    debug.round(round);
    changed();
  },
  measured: (transport, latency) => figures.measured(transport, latency),
});

/** One render a frame at most, and fewer while rounds come fast. */
const changed = () => {
  if (scheduled) return;
  scheduled = true;
  const [, least] = FRAME_MS.find(([from]) => rate >= from);
  const wait = least - (performance.now() - lastFrame);
  if (wait > 0) setTimeout(() => requestAnimationFrame(render), wait);
  else requestAnimationFrame(render);
};

const render = () => {
  scheduled = false;
  lastFrame = performance.now();
  cards.render(rate <= FADE_RATE_MAX);
  list.render(recent.entries);
  $('empty').hidden = recent.entries.length > 0 || document.documentElement.dataset.state !== 'connected';
  debug.render();
};

const showState = (detail) => {
  const { state, transport, attempt, delay, status, code, reason } = detail;
  const again = delay === Infinity ? 'away' : delay ? `again in ${(delay / 1000).toFixed(1)} s` : `attempt ${attempt}`;
  const text = {
    connected: () => `Connected by ${NAMES[transport]}`,
    closed: () => 'Closed',
    connecting: () => `Connecting: ${again}`,
    reconnecting: () => `Connection lost: ${again}`,
  };
  $('state').dataset.state = state;
  document.documentElement.dataset.state = state;
  $('state').textContent = text[state]();
  banner.show(detail);
  const parts = [transport && NAMES[transport], status && `status ${status}`, code && `close code ${code}`, reason,
    delay ? again : '', state === 'connecting' || state === 'reconnecting' ? `resume after ${live.lastRoundId ?? 'nothing'}` : ''];
  debug.event(state, parts.filter(Boolean).join(', '));
  changed();
};

/** The same token would be refused again: the stream ends, and the banner asks for another. */
const wanted = () => ({ url: here, token: currentToken(), ...options(selection, games.list) });

/** Shows the selection from its beginning. */
const restart = () => {
  const { value } = document.querySelector('[name=transport]:checked');
  connected = JSON.stringify(options(selection, games.list));
  banner.clear();
  recent.clear();
  figures.clear();
  games.restart();
  showGames(true);
  live.open({ ...wanted(), transports: value ? [value] : transports, seed: 'each', history: HISTORY });
  measure();
  changed();
};

const useToken = () => {
  restart();
  if (!isRoundPending) return;
  isRoundPending = false;
  follow();
};

const measure = () => live.measure($('compare').checked ? transports : [], wanted());

/** The cards and the choices, as the games are now. */
const showGames = (reset = false) => {
  cards.show(games.list.filter((game) => holds(selection, game)), reset);
  showChoices();
  // Types beside games are named by their games, and there is another one now.
  if (!reset && connected !== JSON.stringify(options(selection, games.list))) restart();
};

const showChoices = () => {
  const option = (text, of) => element('option', { value: `${query(of)}` }, text);
  const types = [...new Set(games.list.map(({ type }) => type))].sort();
  const groups = types.map((type) => {
    const own = games.list.filter((game) => game.type === type);
    const all = option(`all of type ${type}`, { games: [], types: [type] });
    return element('optgroup', { label: type }, all, ...own.map(({ slug, name }) => option(name, { games: [slug], types: [] })));
  });
  const select = $('selection');
  const options = [element('option', { value: '' }, 'all games'), ...groups];
  const value = `${query(selection)}`;
  const isThere = () => [...select.options].some((known) => known.value === value);
  select.replaceChildren(...options);
  if (!isThere()) select.append(option(inWords(selection, games.names), selection));
  select.value = value;
  document.title = isEverything(selection) ? 'Data Stream' : `${inWords(selection, games.names)} – Data Stream`;
};

/** Goes to another address of this page. */
const go = (search) => {
  history.pushState(null, '', search || location.pathname);
  follow();
};

/** Shows what the address says. */
const follow = () => {
  const before = `${query(selection)}`;
  selection = chosen();
  if (before !== `${query(selection)}`) restart();
  const id = new URLSearchParams(location.search).get('round');
  if (id) showRound(id);
  else whole.close();
};

const showRound = async (id) => {
  const known = recent.entries.find(({ round }) => `${round?.round_id}` === id);
  if (known) return whole.open(known);
  whole.say(`Round ${id}`, 'Looking for it…');
  try {
    const found = await find(here, query(selection), id);
    if (new URLSearchParams(location.search).get('round') !== id) return;
    if (found) whole.open(found);
    else whole.say(`Round ${id}`, `${inWords(selection, games.names)} has no finished round ${id}, or it is too old to be found.`);
  } catch (error) {
    // The field for it is below the dialog.
    isRoundPending = error.status === 401;
    if (isRoundPending) return whole.close();
    whole.say(`Round ${id}`, `The server did not say: ${error.message}`);
  }
};

/** The dialog was closed: the address no longer names its round. */
const leaveRound = () => {
  if (!isRoundPending && new URLSearchParams(location.search).has('round')) go(query(selection).size ? href(query(selection)) : '');
};

$('controls').addEventListener('submit', (event) => event.preventDefault());
$('selection').addEventListener('change', ({ target }) => go(target.value && `?${target.value}`));
for (const input of document.querySelectorAll('[name=transport]')) input.addEventListener('change', () => restart());
$('compare').addEventListener('change', measure);
document.addEventListener('click', (event) => {
  const entry = entryOf(event.target);
  if (entry) return whole.open(entry);
  const link = event.target.closest?.('main a[href^="?"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const listed = list.find(link);
  if (!listed) return go(link.getAttribute('href'));
  // The round is opened where it is; its address also names its game.
  whole.open(listed);
});
window.addEventListener('popstate', follow);
// The browser says so to the client when the network is gone or the page is put to sleep.
$('break').addEventListener('click', () => window.dispatchEvent(new Event('offline')));
$('away').addEventListener('click', () => {
  document.dispatchEvent(new Event('freeze'));
  $('away').disabled = true;
  setTimeout(() => {
    $('away').disabled = false;
    document.dispatchEvent(new Event('resume'));
  }, AWAY_MS);
});

for (const input of document.querySelectorAll('[name=transport]')) {
  input.disabled = input.value !== '' && !transports.includes(input.value);
  if (!input.disabled) continue;
  const why = server.OFFERED.includes(input.value) ? 'This browser does not have it here' : 'Off on this server';
  input.parentElement.title = why;
  input.setAttribute('aria-description', why);
}
if (server.NODE) {
  $('node').hidden = false;
  $('node').textContent = server.NODE;
}

setInterval(() => {
  rate = figures.rate;
  figures.draw(live.transport);
  debug.render();
}, 1000);
restart();
const { search } = location;
if (new URLSearchParams(search).has('round')) follow();
