"""A WebSocket server and clients: UPSTREAM_ADDRESS GATEWAY_ADDRESS."""

import asyncio
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main(upstream, gateway):
    host, port = upstream.rsplit(":", 1)
    async with serve(echo, host, int(port), max_size=None):
        # Two at once through a bulkhead of one: a tunnel takes no seat.
        async with connect(f"ws://{gateway}/socket", max_size=None) as first:
            async with connect(f"ws://{gateway}/socket", max_size=None) as second:
                for socket in (first, second):
                    await socket.send("hello")
                    assert await socket.recv() == "hello"
                big = b"x" * 3_000_000
                await first.send(big)
                assert await first.recv() == big
                assert await (await first.ping()) >= 0
        try:
            async with connect(f"ws://{gateway}/plain"):
                raise AssertionError("an upgrade passed where none is allowed")
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code != 101


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 30))
