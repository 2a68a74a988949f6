/** The list of finished rounds. Its rows are made once, and filled again. */

import { element } from './elements.js';
import { asLine } from './results.js';

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'medium' });
const DAY_MS = 86_400_000;

const CAME = { history: 'before', live: 'live', replayed: 'replayed' };

const when = (finishedAt) => {
  const at = new Date(finishedAt);
  return Math.abs(Date.now() - at) > DAY_MS / 2 ? day.format(at) : time.format(at);
};

/** A row and the parts of it that change. */
class Row {
  constructor() {
    this.link = element('a');
    this.at = element('time');
    this.result = element('td', { className: 'result' });
    this.latency = element('td', { className: 'number' });
    this.came = element('td');
    this.game = element('td', { className: 'name' });
    const id = element('td', { className: 'number id' }, this.link);
    this.element = element('tr', {}, id, this.game, this.result, element('td', {}, this.at), this.latency, this.came);
  }

  show(entry, href) {
    const { round, came, latency } = entry;
    this.entry = entry;
    this.element.className = came;
    this.link.textContent = `${round.round_id}`;
    this.link.href = href(round);
    this.game.textContent = round.game_slug;
    this.game.title = round.game_slug;
    this.result.replaceChildren(asLine(entry));
    this.at.dateTime = round.finished_at;
    this.at.textContent = when(round.finished_at);
    this.latency.textContent = came === 'live' ? `${latency} ms` : '–';
    this.came.textContent = CAME[came];
  }
}

const gapRow = (after) => {
  const text = after === null ? 'Rounds may be missing here.' : `Rounds after ${after} may be missing here: the server does not keep them any more.`;
  // Two columns are not there on a phone.
  return { element: element('tr', { className: 'gap' }, element('td', { colSpan: 4 }, text), element('td'), element('td')) };
};

export class List {
  #body;
  #href;
  /** By entry. */
  #rows = new Map();

  constructor(body, href) {
    this.#body = body;
    this.#href = href;
  }

  /** The entry of a link in the list. */
  find(link) {
    for (const row of this.#rows.values()) if (row.link === link) return row.entry;
  }

  /** Shows the entries: rows of those that left are used for those that came. */
  render(entries) {
    const wanted = new Set(entries);
    const free = [];
    for (const [entry, row] of this.#rows) {
      if (wanted.has(entry)) continue;
      this.#rows.delete(entry);
      if (row.entry) free.push(row);
      else row.element.remove();
    }
    let place = this.#body.firstChild;
    for (const entry of entries) {
      let row = this.#rows.get(entry);
      if (!row) {
        row = this.#make(entry, free);
        this.#rows.set(entry, row);
      }
      if (row.element === place) place = place.nextSibling;
      else this.#body.insertBefore(row.element, place);
    }
    for (const row of free) row.element.remove();
  }

  #make(entry, free) {
    if (!entry.round) return gapRow(entry.gap);
    const row = free.pop() ?? new Row();
    row.show(entry, this.#href);
    return row;
  }
}
