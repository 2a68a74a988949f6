/** Says what the server says when it is away, not ready or full, or wants a token. */

import { $, element } from './elements.js';

const SAYS = {
  401: 'The server wants a token',
  403: 'The server does not allow this selection',
  404: 'The server does not know this selection',
  503: 'The server takes no connection now',
};

/** The code of a connection that broke. */
const NO_CLOSE = 1006;

/** The token lives here alone: not in the URL, in no link and in no storage. */
let token;

/** What is pasted may be the whole header. */
const bare = (text) => text.trim().replace(/^bearer\s+/i, '');

/** The heading says as much. A proxy may refuse without a reason, and browsers hide those of the network. */
const NO_REASON = /^(status \d+|Failed to fetch|Load failed|NetworkError.*)$/;

export const currentToken = () => token;

/** What `fetch` needs to be let in. */
export const authorized = () => (token ? { headers: { authorization: `Bearer ${token}` } } : {});

const seconds = (delay) => `${Math.max(delay / 1000, 0.1).toFixed(1)} s`;

const again = ({ state, delay }) => {
  if (state === 'closed') return '';
  if (delay === Infinity) return ' The page is away.';
  return delay ? ` Next attempt in ${seconds(delay)}.` : ' Trying again…';
};

export class Banner {
  #error;
  /** How the last attempt ended. The next one says nothing until it has ended, too. */
  #last;
  /** Whether a token is wanted. One that the server cannot even read is followed by another error. */
  #wanted = false;

  /** @param {{ token: () => void, retry: () => void }} on */
  constructor(on) {
    $('token-form').addEventListener('submit', (event) => {
      event.preventDefault();
      token = bare($('token').value);
      $('token').value = '';
      on.token();
    });
    $('retry').addEventListener('click', on.retry);
  }

  /** What ended the stream. */
  failed(error) {
    this.#error = error;
  }

  clear() {
    this.#error = this.#last = undefined;
    $('banner').hidden = true;
  }

  show(detail) {
    const { state, status, code, reason, delay } = detail;
    if (state === 'connected') {
      this.#wanted = false;
      return this.clear();
    }
    // A reconnect that takes a moment is no news.
    if (status !== null || code !== null || reason !== '') this.#last = { status, code, reason };
    if (!this.#last) return;
    $('banner').hidden = false;
    $('banner-text').replaceChildren(...this.#text(this.#last), element('span', {}, again({ state, delay })));
    this.#wanted ||= [401, 403].includes(this.#last.status);
    $('token-form').hidden = !this.#wanted;
  }

  #text({ status, code, reason }) {
    const closed = code && code !== NO_CLOSE ? 'The server closed the connection' : 'The server does not answer';
    const head = SAYS[status] ?? (status ? `The server answers ${status}` : closed);
    const said = reason || this.#error?.message;
    if (!said || NO_REASON.test(said)) return [element('strong', {}, `${head}.`)];
    return [element('strong', {}, `${head}:`), element('span', { className: 'said' }, ` ${said.replace(/\.$/, '')}.`)];
  }
}
