/** A card for each game of the selection: its latest round and some before it. */

import { $, element } from './elements.js';
import { asCard, asChip } from './results.js';

const CHIPS_MAX = 10;
/** So many games are found at a glance; of more, cards are grouped by type, and there is a search. */
const GROUPED_FROM = 13;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

class Card {
  constructor(game, href) {
    this.link = element('a', { className: 'only' });
    this.name = element('h3', {}, this.link);
    this.latest = element('div', { className: 'latest' }, element('span', { className: 'muted' }, 'no round yet'));
    this.chips = element('p', { className: 'chips', ariaHidden: 'true' });
    this.element = element('article', { className: 'game', id: `game-${game.slug}` }, this.name, this.latest, this.chips);
    this.href = href;
    this.rename(game);
  }

  rename(game) {
    this.game = game;
    this.link.textContent = game.name;
    this.link.title = `Only ${game.name} (${game.slug})`;
    this.link.href = this.href(game);
  }

  /** Takes a round; what is shown follows with the next frame. Says whether it is the latest. */
  take(entry) {
    if (this.entry && Date.parse(this.entry.round.finished_at) > Date.parse(entry.round.finished_at)) return false;
    if (this.entry?.round.round_id !== entry.round.round_id) (this.fresh ??= []).push(entry);
    this.entry = entry;
    return true;
  }

  render(fade) {
    this.latest.replaceChildren(asCard(this.entry));
    // The browser animates: no layout is read to restart it.
    if (fade && !calm.matches && this.entry.came === 'live') this.latest.animate?.({ opacity: [0.2, 1] }, { duration: 350, easing: 'ease-out' });
    for (const entry of (this.fresh ?? []).slice(-CHIPS_MAX)) {
      const chip = asChip(entry);
      if (chip) this.chips.prepend(chip);
    }
    this.fresh = undefined;
    while (this.chips.children.length > CHIPS_MAX) this.chips.lastChild.remove();
  }

  reset() {
    this.entry = this.fresh = undefined;
    this.latest.replaceChildren(element('span', { className: 'muted' }, 'no round yet'));
    this.chips.replaceChildren();
  }
}

export class Cards {
  #place;
  #href;
  /** By slug. */
  #cards = new Map();
  #dirty = new Set();
  #games = [];

  constructor(place, href) {
    this.#place = place;
    this.#href = href;
    $('search').addEventListener('input', () => this.#filter());
  }

  /** Shows the cards of these games, and forgets the rounds of the selection before. */
  show(games, reset) {
    this.#games = games;
    for (const game of games) {
      const card = this.#cards.get(game.slug);
      if (card) card.rename(game);
      else this.#cards.set(game.slug, new Card(game, this.#href));
    }
    if (reset) {
      for (const card of this.#cards.values()) card.reset();
      this.#dirty.clear();
    }
    this.#arrange();
  }

  take(entry) {
    const card = this.#cards.get(entry.round.game_slug);
    if (card?.take(entry)) this.#dirty.add(card);
  }

  render(fade) {
    for (const card of this.#dirty) card.render(fade);
    this.#dirty.clear();
  }

  #arrange() {
    const many = this.#games.length >= GROUPED_FROM;
    $('find').hidden = !many;
    if (!many) $('search').value = '';
    const types = many ? [...new Set(this.#games.map(({ type }) => type))].sort() : [undefined];
    const groups = types.map((type) => {
      const games = this.#games.filter((game) => !many || game.type === type);
      const cards = element('div', { className: 'games' }, ...games.map(({ slug }) => this.#cards.get(slug).element));
      if (!many) return cards;
      const link = element('a', { href: this.#href({ type }), className: 'only', title: `Only type ${type}` }, type);
      const title = element('h3', { className: 'group' }, link, element('span', { className: 'muted' }, ` ${games.length}`));
      return element('section', {}, title, cards);
    });
    for (const { name } of this.#cards.values()) this.#level(name, many);
    this.#place.className = many ? 'many' : '';
    this.#place.replaceChildren(...groups);
    this.#filter();
  }

  /** Headings do not skip a level: below a group's there is one more. */
  #level(name, grouped) {
    name.ariaLevel = grouped ? '4' : '3';
    name.role = 'heading';
  }

  #filter() {
    const wanted = $('search').value.trim().toLowerCase();
    for (const { game, element: card } of this.#cards.values()) {
      card.hidden = wanted !== '' && !`${game.name}\n${game.slug}\n${game.type}`.toLowerCase().includes(wanted);
    }
    for (const group of this.#place.querySelectorAll('section')) group.hidden = !group.querySelector('.game:not([hidden])');
    const found = this.#place.querySelectorAll('.game:not([hidden])').length;
    $('found').textContent = `${found} of ${this.#games.length} games`;
  }
}
