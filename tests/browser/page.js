// What runs inside the page. Each function is sent there as it is, so it may use nothing outside.

/** Adds `window.open_`: a session that keeps all it gets. */
export function prepare() {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const all = async (stream) => {
    const reader = stream.getReader();
    const chunks = [];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return new Blob(chunks).text();
      chunks.push(value);
    }
  };
  window.sessions = [];
  window.open_ = async (url, hashes) => {
    const pins = hashes.map((value) => ({ algorithm: 'sha-256', value: bytes(value) }));
    const session = { datagrams: [], streams: [], closed: null, late: [] };
    const wt = new WebTransport(url, pins.length ? { serverCertificateHashes: pins } : {});
    session.wt = wt;
    wt.closed.then(() => { session.closed = 'closed'; }, (error) => { session.closed = String(error.message); });
    await wt.ready;
    try { wt.datagrams.incomingHighWaterMark = 1000; } catch { /* Firefox before it could */ }
    const read = async () => {
      const reader = wt.datagrams.readable.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const round = JSON.parse(new TextDecoder().decode(value));
        session.datagrams.push(round);
        session.late.push(performance.timeOrigin + performance.now() - round.timestamp);
      }
    };
    const listen = async () => {
      const reader = wt.incomingUnidirectionalStreams.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        const slot = session.streams.push(null) - 1;
        all(value).then((text) => { session.streams[slot] = text; }, () => {});
      }
    };
    read().catch(() => {});
    listen().catch(() => {});
    return window.sessions.push(session) - 1;
  };
  window.look = (index) => {
    const { datagrams, streams, closed, late } = window.sessions[index];
    return { datagrams, streams, closed, late };
  };
}
