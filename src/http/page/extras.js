/** Extras of a game that this page does not know. They may be any JSON, of any size. */

import { element, opener } from './elements.js';

const LINE_MAX = 120;
const VALUE_MAX = 60;
const PAIRS_MAX = 5;
const ITEMS_MAX = 8;

/** A value as short text. Reads no more of it than it shows: extras may have a megabyte. */
export const brief = (value, most) => {
  if (typeof value === 'string') return clamp(value, most);
  if (value === null || typeof value !== 'object') return `${value}`;
  const isList = Array.isArray(value);
  const parts = [];
  let length = 2;
  let complete = true;
  for (const key in value) {
    if (length >= most) {
      complete = false;
      break;
    }
    const inner = value[key];
    const text = typeof inner === 'string' ? JSON.stringify(clamp(inner, most)) : brief(inner, most - length);
    const part = isList ? text : `${clamp(key, most)}: ${text}`;
    length += part.length + 2;
    parts.push(part);
  }
  if (!complete) parts.push('…');
  return clamp(isList ? `[${parts.join(', ')}]` : `{${parts.join(', ')}}`, most);
};

/** Half of a surrogate pair would be shown as a replacement character. */
const clamp = (text, most) =>
  text.length > most ? `${text.slice(0, Math.max(0, most - 1)).replace(/[\ud800-\udbff]$/, '')}…` : text;

/** Text that runs from right to left leaves what is beside it in its place. */
const isolated = (text, className = '') => element('bdi', { className }, text);

/** The first entries of an object or a list; whether there are more. */
const first = (value, most) => {
  const pairs = [];
  for (const key in value) {
    if (pairs.length === most) return [pairs, true];
    pairs.push([key, value[key]]);
  }
  return [pairs, false];
};

const isSimple = (value) => value === null || typeof value !== 'object';

const whole = (entry) => opener(entry, 'Whole JSON', `Whole JSON of round ${entry.round.round_id}`);

/** For a row of the list. */
const line = (entry) => {
  const { extras } = entry;
  if (isSimple(extras) || Array.isArray(extras)) {
    const text = brief(extras, LINE_MAX);
    return withWhole([isolated(text)], entry, text.includes('…'));
  }
  const parts = [];
  let length = 0;
  let more = false;
  for (const key in extras) {
    if (length > LINE_MAX) {
      more = true;
      break;
    }
    const text = brief(extras[key], VALUE_MAX);
    more ||= text.includes('…');
    length += key.length + text.length + 3;
    if (parts.length) parts.push(' ');
    parts.push(isolated(`${clamp(key, VALUE_MAX)}:`, 'key'), ' ', isolated(text));
  }
  return withWhole(parts.length ? parts : ['–'], entry, more);
};

const isLong = (value) => typeof value === 'string' && value.length > LINE_MAX;

const withWhole = (parts, entry, more) =>
  element('span', { className: 'text' }, element('span', { className: 'clamped' }, ...parts), ...(more ? [' ', whole(entry)] : []));

/** For a card. */
const big = (entry) => {
  const { extras } = entry;
  if (isSimple(extras)) {
    const number = typeof extras === 'number' || (typeof extras === 'string' && extras.length < 12);
    return element('span', { className: number ? 'value' : 'text' }, brief(extras, LINE_MAX), ...(isLong(extras) ? [' ', whole(entry)] : []));
  }
  if (Array.isArray(extras)) return list(entry);
  const [pairs, more] = first(extras, PAIRS_MAX);
  if (!pairs.length) return element('span', { className: 'muted' }, 'no extras');
  let cut = more;
  const rows = pairs.map(([key, value]) => {
    const text = brief(value, VALUE_MAX);
    cut ||= text.includes('…');
    return element('div', {}, element('dt', {}, clamp(key, VALUE_MAX)), element('dd', {}, text));
  });
  const shown = element('dl', { className: 'pairs' }, ...rows);
  return element('div', { className: 'generic' }, shown, ...(cut ? [whole(entry)] : []));
};

const list = (entry) => {
  const [pairs, more] = first(entry.extras, ITEMS_MAX);
  const items = pairs.map(([, value]) => element('li', {}, brief(value, VALUE_MAX)));
  const cut = more || items.some(({ textContent }) => textContent.includes('…'));
  const shown = items.length ? element('ul', { className: 'items' }, ...items) : element('span', { className: 'muted' }, 'an empty list');
  return element('div', { className: 'generic' }, shown, ...(cut ? [whole(entry)] : []));
};

export const generic = { line, big };
