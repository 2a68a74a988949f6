/** A server that the test scripts: HTTP, event streams and WebSockets on one port. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

/** A token as the client reads it. Nobody checks its signature here. */
export const jwt = (claims) => {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS256' })}.${part(claims)}.c2ln`;
};

export const round = (id, more = {}) => ({
  round_id: id, game_id: 1, game_slug: 'crash', game_type: 'multiplier', finished_at: '2026-01-17T00:45:42Z',
  extras: '{"point": "2.00"}', timestamp: Date.now(), ...more,
});

export const event = (value, name = 'message') => `event: ${name}\nid: ${value.round_id}\ndata: ${JSON.stringify(value)}\n\n`;

/**
 * Starts it. `http(request, response)` answers requests, `socket(socket, request)` gets WebSockets
 * that `upgrade(request)` lets in: it returns a status to refuse.
 */
export const fake = async ({ http = () => {}, upgrade = () => 426, socket = () => {} }) => {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push(request);
    http(request, response);
  });
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (names) => names.has('datastream') && 'datastream' });
  server.on('upgrade', (request, raw, head) => {
    requests.push(request);
    const status = upgrade(request);
    if (status) return raw.end(`HTTP/1.1 ${status} Refused\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    sockets.handleUpgrade(request, raw, head, (made) => socket(made, request));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    for (const made of sockets.clients) made.terminate();
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, requests, close };
};

/** Begins an event stream. */
export const streaming = (response, ...events) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(`: hello\n\n${events.join('')}`);
};

export const refuse = (response, status, detail, headers = {}) => {
  response.writeHead(status, { 'content-type': 'application/problem+json', ...headers });
  response.end(JSON.stringify({ type: 'about:blank', title: 'x', status, detail }));
};
