/** The counters of the selection, and its plot. Drawn once a second. */

import { $ } from './elements.js';
import { Plot } from './plot.js';

const RATE_SECONDS = 10;

export class Figures {
  #plot = new Plot($('plot'));
  #arrivals = [];
  #total = 0;

  /** A round that came live. */
  live(transport, latency) {
    this.#arrivals.push(performance.now());
    this.#total++;
    this.#plot.add(transport, latency);
  }

  /** A round that finished before. */
  past(round) {
    this.#total++;
    this.#plot.addPast(round.finished_at);
  }

  /** A round of a connection that only measures. */
  measured(transport, latency) {
    this.#plot.add(transport, latency);
  }

  clear() {
    this.#arrivals = [];
    this.#total = 0;
    this.#plot.clear();
  }

  /** Live rounds per second. */
  get rate() {
    const from = performance.now() - 1000 * RATE_SECONDS;
    const kept = this.#arrivals.findIndex((at) => at >= from);
    this.#arrivals.splice(0, kept < 0 ? this.#arrivals.length : kept);
    return this.#arrivals.length / RATE_SECONDS;
  }

  draw(transport) {
    const sorted = this.#plot.sorted(transport);
    const at = (part) => (sorted.length ? `${sorted[Math.floor(part * (sorted.length - 1))]} ms` : '–');
    $('median').textContent = at(0.5);
    $('p95').textContent = at(0.95);
    $('rate').textContent = this.rate.toFixed(1);
    $('total').textContent = this.#total.toLocaleString();
    this.#plot.draw();
  }
}
