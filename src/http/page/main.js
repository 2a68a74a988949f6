/** The live page. It knows the server by `/client.js` and `/games` alone. */

import { connect } from '../client.js';
import { NAMES, Plot } from './plot.js';
import { element, result } from './results.js';
import { OFFERED } from './transports.js';

const ROWS_MAX = 100;
const CHIPS_MAX = 10;
const RATE_SECONDS = 10;
const AWAY_MS = 10000;
/** A replay comes at once. Later a round that finished before the connect is merely late. */
const REPLAY_WITHIN_MS = 3000;

const $ = (id) => document.getElementById(id);
/** Browsers have WebTransport on pages from HTTPS or localhost alone. */
const transports = OFFERED.filter((name) => name !== 'webtransport' || 'WebTransport' in window);
const here = new URL('.', location.href);
const plot = new Plot($('plot'));
const arrivals = [];
let total = 0;
let stream;
/** Streams that only measure, by transport. */
const probes = new Map();

const say = (state, text) => {
  $('state').dataset.state = state;
  $('state').textContent = text;
};

const card = (slug, name = slug) => {
  const known = $(`game-${slug}`);
  if (known) return known;
  const made = element(
    'article',
    { id: `game-${slug}`, className: 'game' },
    element('h3', {}, name),
    element('p', { className: 'latest' }, element('span', { className: 'muted' }, 'no round yet')),
    element('p', { className: 'chips', ariaHidden: 'true' }),
  );
  $('games').append(made);
  return made;
};

const showCard = ({ game_slug: slug }, { big, chip }) => {
  const [, latest, chips] = card(slug).children;
  latest.replaceChildren(big);
  latest.classList.remove('fresh');
  // Reading the layout in between restarts the animation.
  void latest.offsetWidth;
  latest.classList.add('fresh');
  if (chip) chips.prepend(chip);
  while (chips.children.length > CHIPS_MAX) chips.lastChild.remove();
};

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

const cell = (text, className = '') => element('td', { className }, text);

const showRow = (round, shown, latency, came) => {
  $('empty').hidden = true;
  const at = element('time', { dateTime: round.finished_at }, time.format(new Date(round.finished_at)));
  const row = element(
    'tr',
    { className: came },
    cell(`${round.round_id}`, 'number'),
    cell(round.game_slug),
    cell(shown.line, 'result'),
    cell(at),
    cell(came === 'live' ? `${latency} ms` : '–', 'number'),
    cell(came),
  );
  $('rounds').prepend(row);
  while ($('rounds').rows.length > ROWS_MAX) $('rounds').deleteRow(-1);
};

/** Tells a seed and what was replayed from what came live: their latency says nothing. */
const origin = (stream) => {
  let connected = Infinity;
  let seed;
  stream.addEventListener('state', ({ detail }) => {
    if (detail.state === 'connected') connected = Date.now();
  });
  stream.addEventListener('initial', ({ detail }) => {
    seed = detail.round;
  });
  return ({ round }) => {
    if (round === seed) return 'seed';
    const soon = Date.now() - connected < REPLAY_WITHIN_MS;
    return soon && Date.parse(round.finished_at) < connected ? 'replayed' : 'live';
  };
};

const showState = ({ state, transport, attempt, delay, reason }) => {
  const again = delay === Infinity ? 'away' : delay ? `again in ${(delay / 1000).toFixed(1)} s` : `attempt ${attempt}`;
  const why = reason ? ` (${reason})` : '';
  if (state === 'connected') say(state, `Connected by ${NAMES[transport]}`);
  else if (state === 'closed') say(state, 'Closed');
  else say(state, `${state === 'connecting' ? 'Connecting' : 'Connection lost'}: ${again}${why}`);
};

const selection = () => {
  // A slug may have a colon of its own.
  const [, kind, name] = /^(.*?):(.*)/s.exec($('selection').value) ?? [];
  return kind ? { [kind]: name } : {};
};

const start = () => {
  stream?.close();
  const { value } = document.querySelector('[name=transport]:checked');
  stream = connect({ url: here, ...selection(), transports: value ? [value] : transports });
  const came = origin(stream);
  const mine = stream;
  stream.addEventListener('state', ({ detail }) => mine === stream && showState(detail));
  stream.addEventListener('gap', ({ detail }) => showGap(detail));
  stream.addEventListener('round', ({ detail }) => {
    const how = came(detail);
    const shown = result(detail.extras);
    showCard(detail.round, shown);
    showRow(detail.round, shown, detail.latency, how);
    total++;
    arrivals.push(Date.now());
    if (how === 'live') plot.add(mine.transport, detail.latency);
  });
  measure();
};

const showGap = ({ after }) => {
  const text =
    after === null
      ? 'The connection broke before the first round came: rounds may be missing here'
      : `Rounds after ${after} are no longer kept: some are missing here`;
  $('rounds').prepend(element('tr', { className: 'gap' }, element('td', { colSpan: 6 }, text)));
};

/** Connections by the other transports, that show nothing but their latency. */
const measure = () => {
  for (const probe of probes.values()) probe.close();
  probes.clear();
  if (!$('compare').checked) return;
  for (const transport of transports) {
    const probe = connect({ url: here, ...selection(), transports: [transport] });
    const came = origin(probe);
    probe.addEventListener('round', ({ detail }) => {
      const used = stream.transport === transport;
      if (!used && came(detail) === 'live') plot.add(transport, detail.latency);
    });
    probes.set(transport, probe);
  }
};

const showFigures = () => {
  const from = Date.now() - 1000 * RATE_SECONDS;
  while (arrivals[0] < from) arrivals.shift();
  const sorted = plot.sorted(stream?.transport);
  const at = (part) => (sorted.length ? `${sorted[Math.floor(part * (sorted.length - 1))]} ms` : '–');
  $('median').textContent = at(0.5);
  $('p95').textContent = at(0.95);
  $('rate').textContent = (arrivals.length / RATE_SECONDS).toFixed(1);
  $('total').textContent = total.toLocaleString();
  plot.draw();
};

const showGames = async () => {
  const games = await (await fetch(new URL('games', here))).json();
  const option = (value, text) => element('option', { value }, text);
  const types = [...new Set(games.map(({ type }) => type))];
  $('selection').append(
    ...types.map((type) => option(`type:${type}`, `type ${type}`)),
    ...games.map(({ slug, name }) => option(`game:${slug}`, name)),
  );
  for (const { slug, name } of games) card(slug, name).firstChild.textContent = name;
};

$('controls').addEventListener('change', () => {
  const { selection: chosen } = $('controls').elements;
  const wanted = chosen.value.startsWith('game:') ? chosen.value.slice(5) : undefined;
  for (const made of $('games').children) made.hidden = wanted !== undefined && made.id !== `game-${wanted}`;
  start();
});
$('controls').addEventListener('submit', (event) => event.preventDefault());
$('compare').addEventListener('change', measure);
// The browser tells the client when the network is gone or the page is put to sleep.
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
  const why = OFFERED.includes(input.value) ? 'This browser does not have it here' : 'Off on this server';
  input.parentElement.title = why;
  input.setAttribute('aria-description', why);
}

// Without the list the games appear as their rounds do.
showGames().catch(() => {}).then(start);
setInterval(showFigures, 1000);
