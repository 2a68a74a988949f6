/** The debugger: what came, as it came, and what became of the connection. */

import { $, copy, element } from './elements.js';
import { currentToken } from './banner.js';

const LINES_MAX = 200;
const LINE_CHARS_MAX = 2000;
const RENDER_MS = 250;

const clock = () => new Date().toISOString().slice(11, 23);

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A command that shows the same; never with the token itself. */
export const asCurl = (base, query, after) => {
  const parts = ['curl -N', quoted(new URL(`sse${`${query}` && `?${query}`}`, base).href)];
  if (after !== undefined) parts.push(`-H ${quoted(`Last-Event-ID: ${encodeId(after)}`)}`);
  if (currentToken()) parts.push('-H "Authorization: Bearer $TOKEN"');
  return parts.join(' ');
};

/** In the header ids travel with `%` and bytes outside 0x21-0x7E percent-encoded. */
const encodeId = (id) =>
  [...new TextEncoder().encode(`${id}`)]
    .map((byte) => (byte < 0x21 || byte > 0x7e || byte === 0x25
      ? `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
      : String.fromCharCode(byte)))
    .join('');

export class Debugger {
  #lines = [];
  #dirty = false;
  #rendered = 0;
  #command;

  /** @param {() => string} command */
  constructor(command) {
    this.#command = command;
    $('copy-curl').addEventListener('click', () => copy($('copy-curl'), command()));
    $('clear').addEventListener('click', () => {
      this.#lines = [];
      this.#dirty = true;
    });
    $('debugger').addEventListener('toggle', () => {
      this.#dirty = true;
      this.#rendered = 0;
    });
  }

  get #isOpen() {
    return $('debugger').open;
  }

  /** An event of the transport. */
  event(kind, text) {
    this.#add(kind, text);
  }

  /** A round, as JSON. Nobody reads them while the debugger is closed. */
  round(round) {
    if (this.#isOpen && $('raw').checked) this.#add('round', JSON.stringify(round));
  }

  #add(kind, text) {
    const shown = text.length > LINE_CHARS_MAX ? `${text.slice(0, LINE_CHARS_MAX)}… (${text.length} characters)` : text;
    this.#lines.push([clock(), kind, shown]);
    if (this.#lines.length > LINES_MAX) this.#lines.shift();
    this.#dirty = true;
  }

  render() {
    const now = performance.now();
    if (!this.#dirty || !this.#isOpen || $('pause').checked || now - this.#rendered < RENDER_MS) return;
    this.#dirty = false;
    this.#rendered = now;
    $('curl').textContent = this.#command();
    const lines = this.#lines.toReversed().map(([at, kind, text]) =>
      element('li', { className: kind }, element('time', {}, at), element('b', {}, kind), element('code', {}, text)));
    $('events').replaceChildren(...lines);
  }
}
