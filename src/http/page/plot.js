/** Latency over the last two minutes, a series for each transport. */

/* global uPlot */

export const NAMES = { webtransport: 'WebTransport', websocket: 'WebSocket', sse: 'SSE' };
const KEYS = Object.keys(NAMES);
/** Dots of the same round and latency lie on each other: drawn in this order, all are seen. */
const SIZES = { webtransport: 12, websocket: 8, sse: 4 };
const WINDOW_S = 120;
const HEIGHT = 180;
/** How far back the axis goes, and where it is labeled: a page just opened has no two minutes to show. */
const SPANS_S = [
  [30, 20, 10, 0],
  [60, 40, 20, 0],
  [WINDOW_S, 90, 60, 30, 0],
];
/** Where the other axis is labeled, in milliseconds. */
const LEVELS = [0, 2, 10, 50, 200, 1000, 5000, 20000];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const legend = () =>
  KEYS.map((key) => {
    const item = document.createElement('li');
    item.className = key;
    item.textContent = NAMES[key];
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
    new ResizeObserver(() => this.#plot.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
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
        scales: { x: { range: () => this.#span() }, y: { distr: 4, asinh: 2, range } },
        axes: [
          { ...axis, size: 32, splits: () => this.#backs().map((back) => this.#span()[1] - back), values: () => this.#backs().map(ago) },
          { ...axis, size: 64, splits: levels, filter: (_, splits) => splits, values: (_, ticks) => ticks.map((tick) => `${tick} ms`) },
        ],
        series: [{}, ...KEYS.map((key) => series(css(`--${key}`), SIZES[key]))],
      },
      this.#data(),
      this.#place,
    );
  }

  /** Seconds back from now: the whole of the axis first. */
  #backs() {
    const age = Date.now() / 1000 - (this.#samples[0]?.at ?? Infinity);
    return SPANS_S.find(([back]) => back >= age) ?? SPANS_S.at(-1);
  }

  #span() {
    const now = Date.now() / 1000;
    return [now - this.#backs()[0], now];
  }

  #data() {
    const { length } = KEYS;
    const samples = this.#samples;
    const columns = KEYS.map((key) => samples.map((sample) => (sample.key === key ? sample.latency : null)));
    return [samples.map(({ at }) => at), ...columns.slice(0, length)];
  }

  add(key, latency) {
    this.#samples.push({ key, latency, at: Date.now() / 1000 });
  }

  /** Forgets what has left the window, and draws. */
  draw() {
    const oldest = Date.now() / 1000 - WINDOW_S;
    this.#samples = this.#samples.filter(({ at }) => at > oldest);
    if (!document.hidden) this.#plot.setData(this.#data());
  }

  /** The latencies of a transport in the window, sorted. */
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

const ago = (back) => (back ? `−${back} s` : 'now');
