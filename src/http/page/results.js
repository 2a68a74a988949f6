/** How each game shows a result. Extras are a game's own: nothing in them is taken for granted. */

const SVG = 'http://www.w3.org/2000/svg';
const SYMBOLS = ['cherry', 'lemon', 'orange', 'plum', 'bell', 'seven', 'up', 'down'];
const COLORS = ['red', 'black', 'green'];

export const element = (name, options = {}, ...children) => {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
};

const icon = (name) => {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('role', 'img');
  svg.setAttribute('aria-label', name);
  use.setAttribute('href', `#${name}`);
  svg.append(use);
  return svg;
};

const symbol = (name) => (SYMBOLS.includes(name) ? icon(name) : element('span', {}, `${name}`));

const line = (...children) => element('span', { className: 'line' }, ...children);

const crash = ({ point }) => {
  const height = Number(point) >= 10 ? 'high' : Number(point) >= 2 ? 'middle' : 'low';
  return {
    line: line(element('span', { className: height }, `${point}×`)),
    big: element('span', { className: `point ${height}` }, `${point}×`),
    chip: element('span', { className: `chip ${height}` }, `${point}×`),
  };
};

const double = ({ color, number }) => {
  const kind = COLORS.includes(color) ? color : 'other';
  const disc = (size) => element('span', { className: `disc ${size} ${kind}` }, `${number}`);
  return {
    line: line(disc('small'), `${color}`),
    big: element('span', { className: 'pair' }, disc('big'), element('span', {}, `${color}`)),
    chip: disc('small'),
  };
};

const slot = ({ reels, multiplier }) => ({
  line: line(...reels.map(symbol), element('span', { className: Number(multiplier) ? 'win' : 'muted' }, `${multiplier}×`)),
  big: element(
    'span',
    { className: 'pair' },
    element('span', { className: 'reels' }, ...reels.map((name) => element('span', { className: 'reel' }, symbol(name)))),
    element('span', { className: Number(multiplier) ? 'win' : 'muted' }, `${multiplier}×`),
  ),
  chip: element('span', { className: `chip ${Number(multiplier) ? 'middle' : 'plain'}` }, `${multiplier}×`),
});

const trend = ({ trending }) => {
  const way = trending === 'up' ? 'up' : 'down';
  const arrow = () => element('span', { className: way }, symbol(trending));
  return {
    line: line(arrow(), `${trending}`),
    big: element('span', { className: 'pair trend' }, arrow(), element('span', {}, `${trending}`)),
    chip: arrow(),
  };
};

const other = (extras) => {
  const text = Object.entries(extras ?? {})
    .map(([key, value]) => `${key}: ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(', ');
  return { line: line(text || '–'), big: element('span', { className: 'text' }, text || '–') };
};

/**
 * @returns {{ line: Element, big: Element, chip?: Element }} for a line of the table, large, and small
 */
export const result = (extras) => {
  if (extras?.point !== undefined) return crash(extras);
  if (extras?.color !== undefined && extras.number !== undefined) return double(extras);
  if (Array.isArray(extras?.reels)) return slot(extras);
  if (extras?.trending !== undefined) return trend(extras);
  return other(extras);
};
