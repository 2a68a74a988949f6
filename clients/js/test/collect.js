/** What a stream has reported, and waiting for more. */

const WAIT_MS = 15000;

export const collect = (stream) => {
  const seen = { rounds: [], initials: [], states: [], gaps: [], errors: [], details: [] };
  let wake = () => {};
  const take = (type, list, pick) =>
    stream.addEventListener(type, ({ detail }) => {
      list.push(pick(detail));
      wake();
    });
  take('round', seen.rounds, ({ round }) => round.round_id);
  take('round', seen.details, (detail) => detail);
  take('initial', seen.initials, ({ round }) => round.round_id);
  take('state', seen.states, (detail) => detail);
  take('gap', seen.gaps, ({ after }) => after);
  take('error', seen.errors, (error) => error);
  seen.until = async (what, condition) => {
    const deadline = Date.now() + WAIT_MS;
    while (!condition()) {
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`not seen: ${what}. Seen: ${JSON.stringify({ ...seen, details: undefined })}`);
      await new Promise((resolve) => {
        wake = resolve;
        // The test ends when it is done, not when this would have run out.
        setTimeout(resolve, left).unref();
      });
    }
  };
  seen.connected = (transport) =>
    seen.until(`connected by ${transport ?? 'any'}`, () =>
      stream.state === 'connected' && (!transport || stream.transport === transport));
  seen.round = (id) => seen.until(`round ${id}`, () => seen.rounds.includes(id));
  return seen;
};
