"""Speaks TLS to a server for a client that does not: listens without TLS, and prints its address.

usage: tls_client.py HOST:PORT CERTIFICATE
"""

import asyncio
import ssl
import sys


async def copy(reader, writer):
    """Passes bytes on until the end, or until either side breaks off."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def main(address, certificate):
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=certificate)
    # asyncio holds its tasks weakly.
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        to_server = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
        await asyncio.gather(copy(reader, to_server[1]), copy(to_server[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print("{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
