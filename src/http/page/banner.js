/** Says what the server says when it is away, not ready or full, or wants a token. */

import { $, element } from './elements.js';

const SAYS = {
  401: 'The server wants a token',
  403: 'The server does not allow this selection',
  404: 'The server does not know this selection',
  503: 'The server takes no connection now',
};

/** The token lives here alone: not in the URL, in no link and in no storage. */
let token;

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

  /** @param {{ token: () => void, retry: () => void }} on */
  constructor(on) {
    $('token-form').addEventListener('submit', (event) => {
      event.preventDefault();
      token = $('token').value.trim();
      $('token').value = '';
      on.token();
    });
    $('retry').addEventListener('click', on.retry);
  }

  /** What ended the stream. */
  failed(error) {
    this.#error = error;
  }

  show(detail) {
    const { state, status, code, reason } = detail;
    const isBad = state !== 'connected' && (status !== null || code !== null || reason !== '');
    if (!isBad) this.#error = undefined;
    // A reconnect that takes a moment is no news.
    $('banner').hidden = !isBad;
    if (!isBad) return;
    const head = SAYS[status] ?? (status ? `The server answers ${status}` : 'The server does not answer');
    const said = this.#error && !reason ? this.#error.message : reason;
    const what = element('strong', {}, `${head}.`);
    const quote = said ? element('span', { className: 'said' }, ` ${said}`) : '';
    $('banner-text').replaceChildren(what, quote, element('span', {}, again(detail)));
    $('token-form').hidden = status !== 401 && status !== 403;
    $('retry').hidden = state === 'closed' && status !== 404;
    $('retry').textContent = 'Try now';
  }
}
