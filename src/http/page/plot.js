/** When rounds finished, and how long each took to get here, by transport. */

/* global uPlot */

export const NAMES = { webtransport: 'WebTransport', websocket: 'WebSocket', sse: 'SSE' };
/** Rounds that had finished before the page looked have no latency: ticks on the axis. */
const BEFORE = 'before';
const KEYS = [BEFORE, ...Object.keys(NAMES)];
/** Dots of the same round and latency lie on each other: drawn in this order, all are seen. */
const SIZES = { before: 5, webtransport: 12, websocket: 8, sse: 4 };
const HEIGHT = 180;
/** How many rounds the axis goes back to, at least. */
const ROUNDS_SHOWN = 30;
const SAMPLES_MAX = 4000;
const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86400;
/** How far back the axis may go, in seconds. */
const SPANS_S = [30, MINUTE_S, 2 * MINUTE_S, 5 * MINUTE_S, 15 * MINUTE_S, HOUR_S, 4 * HOUR_S, DAY_S, 7 * DAY_S, 30 * DAY_S, 365 * DAY_S];
/** Where the other axis is labeled, in milliseconds. */
const LEVELS = [0, 2, 10, 50, 200, 1000, 5000, 20000];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const legend = () =>
  KEYS.map((key) => {
    const item = document.createElement('li');
    item.className = key;
    item.textContent = NAMES[key] ?? 'finished before';
    return item;
  });

export class Plot {
  #samples = [];
  #place;
  #plot;

  constructor(place) {
    this.#place = place;
    document.getElementById('legend').append(...legend());
    this.#make();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#make());
    new ResizeObserver(([{ contentRect }]) => this.#plot.setSize({ width: contentRect.width, height: HEIGHT })).observe(place);
  }

  #make() {
    const axis = { stroke: css('--muted'), grid: { stroke: css('--line'), width: 1 }, ticks: { show: false } };
    axis.font = '12px system-ui, sans-serif';
    this.#plot?.destroy();
    this.#plot = new uPlot(
      {
        width: this.#place.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        padding: [12, 16, 0, 0],
        // Inverse hyperbolic sine: logarithmic, but with a zero. A single slow round leaves the others in sight.
        scales: { x: { range: () => this.#range() }, y: { distr: 4, asinh: 2, range } },
        axes: [
          { ...axis, size: 32, splits: () => this.#splits(), values: (_, splits) => splits.map((at) => ago(this.#range()[1] - at)) },
          { ...axis, size: 64, splits: levels, filter: (_, splits) => splits, values: (_, ticks) => ticks.map((tick) => `${tick} ms`) },
        ],
        series: [{}, ...KEYS.map((key) => series(css(`--${key}`), SIZES[key]))],
      },
      this.#data(),
      this.#place,
    );
  }

  /** The shortest span that has enough rounds. */
  #span() {
    const oldest = this.#samples.at(-ROUNDS_SHOWN) ?? this.#samples[0];
    const age = oldest ? Date.now() / 1000 - oldest.at : 0;
    return SPANS_S.find((span) => span >= age) ?? SPANS_S.at(-1);
  }

  #range() {
    const now = Date.now() / 1000;
    return [now - this.#span(), now];
  }

  #splits() {
    const [from, now] = this.#range();
    return [0, 1 / 3, 2 / 3, 1].map((part) => from + part * (now - from));
  }

  #data() {
    const samples = this.#samples;
    const columns = KEYS.map((key) => samples.map((sample) => (sample.key === key ? sample.latency : null)));
    return [samples.map(({ at }) => at), ...columns];
  }

  /** A round that came live. */
  add(key, latency) {
    this.#samples.push({ key, latency, at: Date.now() / 1000 });
  }

  /** A round that finished before. */
  addPast(finishedAt) {
    const at = Date.parse(finishedAt) / 1000;
    let place = this.#samples.length;
    while (place && this.#samples[place - 1].at > at) place--;
    this.#samples.splice(place, 0, { key: BEFORE, latency: 0, at });
  }

  clear() {
    this.#samples = [];
  }

  /** Forgets what is out of the span, and draws. */
  draw() {
    const [from] = this.#range();
    const kept = this.#samples.findIndex(({ at }) => at >= from);
    this.#samples.splice(0, Math.max(kept, this.#samples.length - SAMPLES_MAX, 0));
    if (!document.hidden) this.#plot.setData(this.#data());
  }

  /** The latencies of a transport in the plot, sorted. */
  sorted(key) {
    return this.#samples
      .filter((sample) => sample.key === key)
      .map(({ latency }) => latency)
      .sort((a, b) => a - b);
  }
}

const series = (color, size) => ({
  stroke: color,
  // Points alone: a line from round to round would say that something is between them.
  paths: () => null,
  points: { show: true, size, fill: color, width: 0 },
});

/** From nothing to the next level: a single slow round should not make it jump about. */
const range = (_, low, high) => [
  Math.min(0, low ?? 0),
  LEVELS.find((level) => level >= Math.max(high ?? 0, 10)) ?? high,
];

const levels = ({ scales }) => LEVELS.filter((level) => level <= scales.y.max);

const UNITS = [[DAY_S, 'd'], [HOUR_S, 'h'], [MINUTE_S, 'min'], [0, 's']];

const ago = (seconds) => {
  if (seconds < 1) return 'now';
  const [size, unit] = UNITS.find(([size]) => seconds >= 2 * size);
  return `−${Math.round(seconds / (size || 1))} ${unit}`;
};
