// A page with nothing but the client on it, as the cases use it.

import assert from 'node:assert/strict';

/** Opens a stream in the page and keeps what it tells. */
export const open = async (page, server, options = {}, url = server.url) => {
  if (!page.url().startsWith(url)) await page.goto(`${url}/healthz`);
  await page.evaluate(async (options) => {
    const { connect } = await import('/client.js');
    const seen = { rounds: [], initials: [], states: [], gaps: [] };
    const stream = connect(options);
    stream.addEventListener('round', ({ detail }) => seen.rounds.push(detail.round.round_id));
    stream.addEventListener('initial', ({ detail }) => seen.initials.push(detail.round.round_id));
    stream.addEventListener('state', ({ detail }) => seen.states.push(detail));
    stream.addEventListener('gap', ({ detail }) => seen.gaps.push(detail.after));
    Object.assign(window, { stream, seen });
  }, options);
};

/** Waits in the page; says what was seen if it never comes. */
export const until = async (page, what, condition, argument, timeout = 40_000) => {
  await page.waitForFunction(condition, argument, { timeout, polling: 20 }).catch(async () => {
    const seen = await page.evaluate(() => ({
      ...window.seen, rounds: window.seen?.rounds.slice(-20), states: window.seen?.states.slice(-8),
    }));
    throw new Error(`not seen: ${what}. Seen: ${JSON.stringify(seen)}`);
  });
};

export const connected = (page, transport) =>
  until(page, `connected by ${transport}`, (transport) =>
    stream.state === 'connected' && (!transport || stream.transport === transport), transport);

export const away = (page) => until(page, 'reconnecting', () => stream.state === 'reconnecting');

/** Every one of the rounds, each once. Their order is the caller's affair. */
export const eachOnce = async (page, ids, timeout) => {
  const all = (ids) => ids.every((id) => seen.rounds.includes(id));
  await until(page, `rounds ${ids[0]} to ${ids.at(-1)}`, all, ids, timeout);
  const rounds = await page.evaluate(() => seen.rounds);
  assert.equal(new Set(rounds).size, rounds.length, 'no repeats');
  return rounds.filter((id) => ids.includes(id));
};
