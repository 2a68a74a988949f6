/** The server's games, as it names them now. */

import { authorized } from './banner.js';

/** A game without rounds appears by then. One with rounds appears with its first. */
const REFRESH_MS = 10_000;
/** Many rounds of unknown games are one question. */
const ASK_AGAIN_MS = 1000;

export class Games {
  /** @type {{ id: number | string, slug: string, name: string, type: string }[]} */
  list = [];
  #url;
  #changed;
  #tag = '';
  #asked = 0;
  #question = 0;
  #asking;

  constructor(base, changed) {
    this.#url = new URL('games', base);
    this.#changed = changed;
    setInterval(() => document.hidden || this.refresh(), REFRESH_MS);
  }

  get names() {
    return new Map(this.list.map(({ slug, name }) => [slug, name]));
  }

  /** Asks again; the answer counts if it says something else. */
  refresh() {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** Asks with the token of now, also while a question with another one is under way. */
  restart() {
    this.#asking = undefined;
    return this.refresh();
  }

  async #ask() {
    this.#asked = performance.now();
    const question = ++this.#question;
    try {
      const response = await fetch(this.#url, authorized());
      if (!response.ok) return;
      const text = await response.text();
      if (text === this.#tag || question !== this.#question) return;
      this.#tag = text;
      this.list = JSON.parse(text);
      this.#changed();
    } catch {
      // The banner says what is wrong with the server.
    }
  }

  /** A round of a game came. If the game is new it is shown at once; its name follows. */
  sawRound({ game_id: id, game_slug: slug, game_type: type }) {
    const known = this.list.find((game) => game.slug === slug);
    if (known?.type === type) return;
    if (!known) {
      this.list = [...this.list, { id, slug, name: slug, type }];
      this.#changed();
    }
    const since = performance.now() - this.#asked;
    setTimeout(() => this.refresh(), Math.max(0, ASK_AGAIN_MS - since));
  }
}
