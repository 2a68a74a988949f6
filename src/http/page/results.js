/** How a game's result looks. Extras are the game's own: a shape that is not exactly one of these is
 * shown as any other game's. */

import { element, icon } from './elements.js';
import { generic } from './extras.js';

const SYMBOLS = ['cherry', 'lemon', 'orange', 'plum', 'bell', 'seven', 'up', 'down'];
const COLORS = ['red', 'black', 'green'];
const SHORT = 24;

const isShort = (value) =>
  (typeof value === 'string' && value.length > 0 && value.length <= SHORT) || typeof value === 'number';
const isNumber = (value) => isShort(value) && Number.isFinite(Number(value));

/** What a symbol is called in index.html, if not as the game calls it. */
const DRAWN = { bell: 'notice' };

const symbol = (name) => (SYMBOLS.includes(name) ? icon(name, DRAWN[name]) : element('span', {}, `${name}`));

const line = (...children) => element('span', { className: 'line' }, ...children);

const crash = {
  fits: ({ point }) => isNumber(point),
  height: ({ point }) => (Number(point) >= 10 ? 'high' : Number(point) >= 2 ? 'middle' : 'low'),
  line: (extras) => line(element('span', { className: crash.height(extras) }, `${extras.point}×`)),
  big: (extras) => element('span', { className: `point ${crash.height(extras)}` }, `${extras.point}×`),
  chip: (extras) => element('span', { className: `chip ${crash.height(extras)}` }, `${extras.point}×`),
};

const disc = ({ color, number }, size) =>
  element('span', { className: `disc ${size} ${COLORS.includes(color) ? color : 'other'}` }, `${number}`);

const double = {
  fits: ({ color, number }) => isShort(color) && isNumber(number) && `${number}`.length <= 4,
  line: (extras) => line(disc(extras, 'small'), `${extras.color}`),
  big: (extras) => element('span', { className: 'pair' }, disc(extras, 'big'), element('span', {}, `${extras.color}`)),
  chip: (extras) => disc(extras, 'small'),
};

const win = ({ multiplier }) => element('span', { className: Number(multiplier) ? 'win' : 'muted' }, `${multiplier}×`);

const slot = {
  fits: ({ reels, multiplier }) => Array.isArray(reels) && reels.length > 0 && reels.length <= 6 && reels.every(isShort) && isNumber(multiplier),
  line: (extras) => line(...extras.reels.map(symbol), win(extras)),
  big: (extras) => {
    const reels = extras.reels.map((name) => element('span', { className: 'reel' }, symbol(name)));
    return element('span', { className: 'pair' }, element('span', { className: 'reels' }, ...reels), win(extras));
  },
  chip: ({ multiplier }) => element('span', { className: `chip ${Number(multiplier) ? 'middle' : 'plain'}` }, `${multiplier}×`),
};

const arrow = ({ trending }) => element('span', { className: trending }, symbol(trending));

const trend = {
  fits: ({ trending }) => trending === 'up' || trending === 'down',
  line: (extras) => line(arrow(extras), extras.trending),
  big: (extras) => element('span', { className: 'pair trend' }, arrow(extras), element('span', {}, extras.trending)),
  chip: (extras) => arrow(extras),
};

const SHAPES = [crash, double, slot, trend];

const shape = (extras) => {
  if (extras === null || typeof extras !== 'object' || Array.isArray(extras)) return;
  return SHAPES.find(({ fits }) => fits(extras));
};

/** For a row of the list. */
export const asLine = (entry) => shape(entry.extras)?.line(entry.extras) ?? generic.line(entry);

/** For a card. */
export const asCard = (entry) => shape(entry.extras)?.big(entry.extras) ?? generic.big(entry);

/** Small, for the results before; nothing for a shape that has no small form. */
export const asChip = (entry) => shape(entry.extras)?.chip(entry.extras);
