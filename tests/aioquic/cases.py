"""What the protocol shows, and what clients that misbehave may not do."""

import asyncio
import json
import os
import signal
import socket
import struct

from aioquic.buffer import encode_uint_var
from aioquic.quic.connection import QuicConnectionState

from client import client
from server import Server, finish, finish_each, sql

OPEN = 'datastream_subscribers{transport="webtransport"}'


async def eventually(what, look, limit=15):
    """Server.wait without holding up the client."""
    return await asyncio.to_thread(Server.wait, what, look, limit)


async def latest(server, game, **round):
    """Finishes a round and waits until it is what newcomers are given; its id."""
    [seed] = await asyncio.to_thread(finish, game, **round)
    path = f"/rounds/{game}/latest"
    await eventually(f"{seed} at {path}", lambda: json.loads(server.get(path))["round_id"] == seed)
    return seed


async def still_serves(server):
    """A well-behaved client gets its seed and a live round."""
    seed = await latest(server, "crash")
    async with client(server.port) as good:
        await good.open("/wt/crash")
        [text] = await good.texts(1)
        assert json.loads(text)["round_id"] == seed
        [live] = finish("crash")
        await good.until("a datagram", lambda: any(one["round_id"] == live for one in good.datagrams))


async def statuses_are_those_of_the_other_doors(server):
    for path, status in [("/wt", 200), ("/wt/crash", 200), ("/wt/type/color", 200), ("/wt/wall%2Dstreet", 200),
                         ("/wt?game=crash&type=color", 200), ("/wt/crash?after=", 200), ("/wt/chess", 404),
                         ("/wt/type/board", 404), ("/wt?game=chess", 404), ("/", 404), ("/ws/crash", 404),
                         ("/wt/type/color/more", 404), ("/wt/crash?after=%01", 400)]:
        async with client(server.port) as one:
            await one.open(path)
            assert one.status == status, f"{path}: {one.status}, not {status}"


async def an_origin_that_is_not_allowed_is_forbidden(_):
    server = Server(DATASTREAM_ALLOWED_ORIGINS="https://good.example")
    try:
        for origin, status in [("https://good.example", 200), ("https://bad.example", 403), ("null", 403)]:
            async with client(server.port) as one:
                await one.open("/wt/crash", origin=origin)
                assert one.status == status, f"{origin}: {one.status}"
        async with client(server.port) as one:
            await one.open("/wt/crash")
            assert one.status == 200, "what names no origin is no browser"
    finally:
        server.stop()


async def a_full_server_answers_429_and_lets_the_next_in(_):
    server = Server(DATASTREAM_MAX_CONNECTIONS="2")
    try:
        async with client(server.port) as one, client(server.port) as two, client(server.port) as three:
            await one.open("/wt")
            await two.open("/wt")
            await three.open("/wt")
            assert (one.status, two.status, three.status) == (200, 200, 429)
            assert server.metric("datastream_connections_refused_total") == 1
        await eventually("the places to be free", lambda: server.metric(OPEN) == 0)
        async with client(server.port) as four:
            await four.open("/wt")
            assert four.status == 200
    finally:
        server.stop()


async def a_stopping_server_says_bye_and_closes_with_1001(_):
    server = Server()
    await latest(server, "crash")
    async with client(server.port) as one, client(server.port) as two:
        for each in (one, two):
            await each.open("/wt/crash")
            await each.texts(1)
        server.signal(signal.SIGTERM)
        for each in (one, two):
            bye = json.loads((await each.texts(2))[1])
            assert (bye["type"], bye["code"]) == ("bye", 1001), bye
            await each.until("the close", lambda each=each: each.terminated)
            assert each.terminated.error_code == 1001, each.terminated
    assert server.process.wait(20) == 0


async def no_round_is_lost_or_repeated_between_opening_and_live(server):
    """Clients that come while rounds are being finished see each round once, whatever the moment."""
    point = await latest(server, "double")
    writing = asyncio.create_task(asyncio.to_thread(finish_each, "double", 150))
    seen = []
    for number in range(15):
        async with client(server.port) as one:
            await one.open(f"/wt/double?after={point}" if number % 2 else "/wt/double")
            writing.add_done_callback(lambda _, one=one: one.changed.set())
            await one.until("five datagrams", lambda: len(one.datagrams) >= 5 or writing.done())
            lines = [json.loads(line) for text in one.finished for line in text.decode().splitlines()]
            seen.append([round["round_id"] for round in lines + one.datagrams])
        if writing.done():
            break
    written = [point, *await writing]
    for rounds in filter(None, seen):
        first = written.index(rounds[0])
        assert rounds == written[first : first + len(rounds)], rounds


async def a_client_that_closes_is_gone_at_once(server):
    async with client(server.port) as one:
        session = await one.open("/wt/crash")
        await eventually("one session", lambda: server.metric(OPEN) == 1)
        reason = b"bye"
        capsule = encode_uint_var(0x2843) + encode_uint_var(4 + len(reason)) + struct.pack(">I", 77) + reason
        one.h3.send_data(session, capsule, end_stream=True)
        one.transmit()
        await eventually("no session", lambda: server.metric(OPEN) == 0)


async def a_client_that_vanishes_is_let_go_after_two_heartbeats(_):
    server = Server(DATASTREAM_HEARTBEAT="1s")
    try:
        async with client(server.port) as one:
            await one.open("/wt/crash")
            await eventually("one session", lambda: server.metric(OPEN) == 1)
            one.transmit = one.datagram_received = lambda *_: None
            await eventually("no session", lambda: server.metric(OPEN) == 0)
            del one.transmit, one.datagram_received
            closed = 'datastream_sessions_closed_total{transport="webtransport",reason="no_pong"}'
            assert server.metric(closed) == 1
    finally:
        server.stop()


async def a_quiet_session_stays_open(_):
    server = Server(DATASTREAM_HEARTBEAT="500ms")
    try:
        async with client(server.port, idle_timeout=2.0) as one:
            await one.open("/wt/crash")
            packets = 0
            receive = one.datagram_received

            def count(*packet):
                nonlocal packets
                packets += 1
                receive(*packet)
                one.changed.set()

            one.datagram_received = count
            # A ping every quarter of a second: two seconds twice over, in which nobody has anything to say.
            await one.until("pings", lambda: packets >= 16 or one.terminated)
            assert one.terminated is None, one.terminated
            [live] = finish("crash")
            await one.until("a datagram", lambda: any(got["round_id"] == live for got in one.datagrams))
    finally:
        server.stop()


async def a_client_that_never_reads_holds_little_and_nobody_up(server):
    """It acknowledges packets but gives no more room on streams: rounds of 20 kB pile up, bounded."""
    await latest(server, "slot")
    before = server.memory_kb()
    async with client(server.port, max_data=60_000, max_stream_data=10_000) as one:
        await one.open("/wt/slot")
        # No more credit from here on: the frames that raise the limits are never sent.
        one._quic._write_connection_limits = lambda **_: None
        one._quic._write_stream_limits = lambda **_: None
        large = json.dumps({"reels": "x" * 20_000})
        await asyncio.to_thread(finish_each, "slot", 40, 5, large)
        await eventually("drops", lambda: server.metric('datastream_rounds_dropped_total{transport="webtransport"}') > 100)
        assert server.memory_kb() - before < 20_000, (before, server.memory_kb())
        await still_serves(server)
        del one._quic._write_connection_limits, one._quic._write_stream_limits


async def floods_of_datagrams_and_streams_change_nothing(server):
    before = server.memory_kb()
    async with client(server.port) as one:
        session = await one.open("/wt/crash")
        for number in range(20_000):
            one.h3.send_datagram(session, b"x" * 500)
            if number % 50 == 0:
                one.transmit()
                await asyncio.sleep(0)
        for _ in range(300):
            stream = one.h3.create_webtransport_stream(session, is_unidirectional=True)
            one._quic.send_stream_data(stream, b"x" * 10_000)
            stream = one.h3.create_webtransport_stream(session)
            one._quic.send_stream_data(stream, b"x" * 10_000)
        one.transmit()
        await still_serves(server)
        assert one.terminated is None, one.terminated
    assert server.memory_kb() - before < 20_000, (before, server.memory_kb())


async def half_a_handshake_and_no_request_are_given_up(server):
    """A first packet and silence; a handshake without a request; junk instead of packets."""
    async with client(server.port) as silent:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as junk:
            for _ in range(2000):
                junk.sendto(os.urandom(1200), ("127.0.0.1", server.port))
        await still_serves(server)
        await silent.until("the server's end of it", lambda: silent.terminated)


async def a_wrong_alpn_fails_the_handshake(server):
    try:
        async with client(server.port, alpn=["http/0.9"]) as one:
            raise AssertionError(f"connected: {one._quic._state}")
    except ConnectionError:
        pass
    await still_serves(server)


async def junk_on_the_control_stream_ends_the_connection_alone(server):
    async with client(server.port) as one:
        await one.open("/wt/crash")
        one._quic.send_stream_data(one.h3._local_control_stream_id, b"\x04\x02\xff\xff\x00junk")
        one.transmit()
        await one.until("the end", lambda: one.terminated)
        assert one._quic._state != QuicConnectionState.CONNECTED
    async with client(server.port) as other:
        await other.open("/wt/crash")
        other._quic.send_stream_data(other.h3._local_control_stream_id, b"", end_stream=True)
        other.transmit()
        await other.until("the end", lambda: other.terminated)
    await still_serves(server)


async def a_second_session_on_a_connection_is_refused(server):
    async with client(server.port) as one:
        await one.open("/wt/crash")
        one.ask("/wt/double")
        await still_serves(server)
        assert server.metric(OPEN) == 1


async def requests_that_are_none_leave_the_server_alone(server):
    async with client(server.port) as one:
        stream = one._quic.get_next_available_stream_id()
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]
        one.h3.send_headers(stream, fields, end_stream=True)
        one.transmit()
        await still_serves(server)
    for path in ["", "wt", "*", "/wt/%zz", "/wt/%ff", "/wt/" + "x" * 5000, "/wt?" + "game=crash&" * 200, "//", "/wt/", "http://x/wt"]:
        async with client(server.port) as one:
            one.ask(path)
            await one.until("an answer or the end", lambda: one.status or one.terminated)
            assert one.status in (None, 400, 404), f"{path[:20]}: {one.status}"
    await still_serves(server)


def is_retry(out):
    """Whether the first answer to this socket is a Retry (RFC 9000 section 17.2.5)."""
    try:
        return out.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)[0] & 0xF0 == 0xF0
    except BlockingIOError:
        return False


async def many_handshakes_at_once_prove_their_addresses(server):
    """First packets without an end: beyond 128 of them a newcomer is sent a Retry, and comes in."""
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection
    from aioquic.h3.connection import H3_ALPN
    import time
    sockets = []
    for _ in range(200):
        quic = QuicConnection(configuration=QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost"))
        quic.connect(("127.0.0.1", server.port), now=time.time())
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets.append(out)
        for data, address in quic.datagrams_to_send(now=time.time()):
            out.sendto(data, address)
    await eventually("a Retry", lambda: any(is_retry(out) for out in sockets))
    async with client(server.port) as one:
        assert one._quic._retry_source_connection_id is not None, "no Retry"
        await one.open("/wt/crash")
        assert one.status == 200
    for out in sockets:
        out.close()

    async def comes_in_at_once():
        async with client(server.port) as one:
            return one._quic._retry_source_connection_id is None

    await eventually("the handshakes to be given up", lambda: asyncio.run(comes_in_at_once()), 20)


CASES = [value for value in list(globals().values())
         if asyncio.iscoroutinefunction(value) and value.__module__ == __name__ and value.__name__ not in ("eventually", "latest", "still_serves")]
