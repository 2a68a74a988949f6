"""A WebTransport client of its own make: aioquic's QUIC and HTTP/3, nothing of the server's libraries."""

import asyncio
import json
import ssl
from contextlib import asynccontextmanager

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DatagramReceived, DataReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted

LIMIT = 15


class Client(QuicConnectionProtocol):
    """One connection with one session."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.h3 = None
        self.status = None
        self.datagrams = []
        self.streams = {}
        self.finished = []
        self.terminated = None
        self.changed = asyncio.Event()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.h3 = H3Connection(self._quic, enable_webtransport=True)
        elif isinstance(event, ConnectionTerminated):
            self.terminated = event
        if self.h3 is not None:
            for told in self.h3.handle_event(event):
                self._told(told)
        self.changed.set()

    def _told(self, event):
        if isinstance(event, HeadersReceived):
            self.status = int(dict(event.headers)[b":status"])
        elif isinstance(event, DatagramReceived):
            self.datagrams.append(json.loads(event.data))
        elif isinstance(event, WebTransportStreamDataReceived):
            self.streams[event.stream_id] = self.streams.get(event.stream_id, b"") + event.data
            if event.stream_ended:
                self.finished.append(self.streams[event.stream_id])
        elif isinstance(event, DataReceived):
            pass

    def ask(self, path, authority="localhost", **headers):
        """Sends the CONNECT request; its stream is the session."""
        session = self._quic.get_next_available_stream_id()
        fields = {":method": "CONNECT", ":scheme": "https", ":authority": authority, ":path": path,
                  ":protocol": "webtransport", **headers}
        self.h3.send_headers(session, [(name.encode(), value.encode()) for name, value in fields.items()])
        self.transmit()
        return session

    async def until(self, what, holds):
        """Waits until something holds."""
        try:
            async with asyncio.timeout(LIMIT):
                while not holds():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited {LIMIT} s for {what}") from None

    async def open(self, path, **headers):
        """Asks and waits for the answer."""
        session = self.ask(path, **headers)
        await self.until("an answer", lambda: self.status is not None or self.terminated)
        return session

    async def texts(self, count):
        """The texts of so many whole streams, in the order in which they ended."""
        await self.until(f"{count} streams", lambda: len(self.finished) >= count)
        return [text.decode() for text in self.finished]


@asynccontextmanager
async def client(port, alpn=H3_ALPN, **settings):
    """A connected client, its handshake done."""
    configuration = QuicConfiguration(alpn_protocols=alpn, is_client=True, max_datagram_frame_size=65536,
                                      verify_mode=ssl.CERT_NONE, server_name="localhost", **settings)
    async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Client) as opened:
        yield opened
