/** The rounds in the list: the last ones of the selection, newest first, each once. */

const MOST = 50;

/** Orders as time does: the server's times have no fraction, or one to six digits. */
const timeKey = (finishedAt) => {
  const [whole, fraction = ''] = finishedAt.slice(0, -1).split('.');
  return `${whole}.${fraction.padEnd(6, '0')}`;
};

const isAfter = (one, other) => {
  if (one.key !== other.key) return one.key > other.key;
  const [a, b] = [one.round?.round_id, other.round?.round_id];
  return a === undefined || typeof a !== typeof b || a > b;
};

export class Recent {
  /** Rounds, and gaps between them. */
  entries = [];

  /**
   * Adds `{ round, extras, … }`. Says whether it is among the last.
   */
  add(entry) {
    entry.key = timeKey(entry.round.finished_at);
    // A round that finished again takes its new place.
    const before = this.entries.findIndex(({ round }) => round?.round_id === entry.round.round_id);
    if (before >= 0) this.entries.splice(before, 1);
    return this.#insert(entry);
  }

  /** Marks that rounds may be missing before what comes next. */
  addGap(after) {
    this.#insert({ gap: after, key: this.entries[0]?.key ?? '' });
  }

  clear() {
    this.entries = [];
  }

  #insert(entry) {
    const found = this.entries.findIndex((other) => isAfter(entry, other));
    const place = found < 0 ? this.entries.length : found;
    if (place >= MOST) return false;
    this.entries.splice(place, 0, entry);
    this.entries.length = Math.min(this.entries.length, MOST);
    return true;
  }
}
