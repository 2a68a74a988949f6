/** The hooks on a server. What they do in a browser is in tests/browser. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { useLatest, useRounds } from '../src/react.js';

const render = (hook, options) => {
  let got;
  const Probe = () => {
    got = hook(options);
    return null;
  };
  renderToString(createElement(Probe));
  return got;
};

test('on a server the hooks render without a connection', () => {
  const options = { url: 'http://127.0.0.1:9', game: 'crash' };
  assert.deepEqual({ ...render(useRounds, options) }, { rounds: [], latest: undefined, state: 'connecting', error: undefined });
  assert.deepEqual(render(useLatest, options), { latest: undefined, state: 'connecting', error: undefined });
  assert.equal(render(useRounds, null).state, 'closed');
});

test('a wrong selection fails while rendering', () => {
  assert.throws(() => render(useRounds, { game: undefined }), TypeError);
  assert.throws(() => render(useLatest, { game: 'a', type: 'b' }), TypeError);
});
