/** One whole round, in a dialog: its JSON, a link to it, and how to see it in a terminal. */

import { $, copy, element } from './elements.js';
import { authorized } from './banner.js';

/** More in one element makes a browser slow; the copy button has everything. */
const SHOWN_MAX = 200_000;
const PAGES_MAX = 20;
const PAGE = 1000;
const REPLAY_MS = 3000;

const pretty = (value) => {
  const text = JSON.stringify(value, null, 2) ?? `${value}`;
  return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}\n… (${text.length.toLocaleString()} characters; copy has all)` : text;
};

export class Whole {
  #round;
  #extras;

  /** @param {{ link: (round) => string, curl: (round) => string, closed: () => void }} of */
  constructor(of) {
    const dialog = $('whole');
    $('close-whole').addEventListener('click', () => dialog.close());
    // A click beside it.
    dialog.addEventListener('click', ({ target }) => target === dialog && dialog.close());
    dialog.addEventListener('close', of.closed);
    $('copy-extras').addEventListener('click', (event) => copy(event.target, JSON.stringify(this.#extras, null, 2)));
    $('copy-round').addEventListener('click', (event) => copy(event.target, JSON.stringify(this.#round)));
    $('copy-link').addEventListener('click', (event) => copy(event.target, of.link(this.#round)));
    $('copy-since').addEventListener('click', (event) => copy(event.target, of.curl(this.#round)));
  }

  open({ round, extras }) {
    this.#round = round;
    this.#extras = extras;
    $('whole-title').replaceChildren(`Round ${round.round_id} of `, element('bdi', {}, round.game_slug));
    $('whole-text').hidden = true;
    $('whole-extras').textContent = pretty(extras);
    $('whole-round').textContent = pretty({ ...round, extras: round.extras.length > 200 ? `${round.extras.slice(0, 200)}…` : round.extras });
    $('whole-body').hidden = false;
    this.#show();
  }

  /** While it is looked for, or why it is not there. */
  say(title, text) {
    $('whole-title').textContent = title;
    $('whole-text').textContent = text;
    $('whole-text').hidden = false;
    $('whole-body').hidden = true;
    this.#show();
  }

  close() {
    $('whole').close();
  }

  #show() {
    if (!$('whole').open) $('whole').showModal();
  }
}

const parse = (round) => {
  try {
    return { round, extras: JSON.parse(round.extras) };
  } catch {
    return { round, extras: round.extras };
  }
};

/**
 * Looks for a round by its id. The server lists rounds before one, and replays rounds after one: the
 * round before the wanted one leads to it. A round too old for a replay is looked for in the list.
 *
 * @returns {Promise<{ round, extras } | undefined>}
 */
export const find = async (base, selection, id) => {
  const ask = async (path, query) => fetch(new URL(`${path}?${query}`, base), authorized());
  const before = await ask('rounds', `${selection}&limit=1&before=${encodeURIComponent(id)}`);
  if (before.status === 404) return undefined;
  if (!before.ok) throw await refusal(before);
  const [previous] = await before.json();
  const found = previous && (await replayed(base, selection, previous.round_id, id));
  return found ?? listed(ask, selection, id);
};

const refusal = async (response) => {
  const { status } = response;
  const { detail } = await response.json().catch(() => ({}));
  return Object.assign(Error(detail ?? `status ${status}`), { status });
};

/** The round that follows another, from a replay. */
const replayed = async (base, selection, after, id) => {
  const leaving = new AbortController();
  const timer = setTimeout(() => leaving.abort(), REPLAY_MS);
  try {
    const url = new URL(`sse?${selection}&after=${encodeURIComponent(after)}`, base);
    const { body } = await fetch(url, { ...authorized(), signal: leaving.signal });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      // The replay is gone: the server starts over.
      if (done || /^event: initial$/m.test(value)) return undefined;
      text += value;
      for (const [, json] of text.matchAll(/^data: (.*)\n/gm)) {
        const round = JSON.parse(json);
        if (`${round.round_id}` === id) return parse(round);
      }
      text = text.slice(text.lastIndexOf('\n') + 1);
    }
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
    leaving.abort();
  }
};

const listed = async (ask, selection, id) => {
  let query = `${selection}&limit=${PAGE}`;
  for (let page = 0; page < PAGES_MAX && query; page++) {
    const response = await ask('rounds', query);
    if (!response.ok) return undefined;
    const round = (await response.json()).find(({ round_id }) => `${round_id}` === id);
    if (round) return parse(round);
    query = /\?([^>]*)>; rel="next"/.exec(response.headers.get('link') ?? '')?.[1];
  }
  return undefined;
};
