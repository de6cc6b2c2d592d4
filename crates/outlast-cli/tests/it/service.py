"""A service of a fixed capacity: PORT WORKERS SECONDS.

Each request takes a worker for so many seconds, in order of arrival; whoever finds all of them busy
waits, and is served although he may have gone. When a worker is done is computed and not measured,
so a busy machine makes answers late, and no worker slow.
"""

import asyncio
import heapq
import sys

PORT, WORKERS, SECONDS = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


async def main():
    loop = asyncio.get_running_loop()
    free = [loop.time()] * WORKERS

    async def serve(reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                done = max(loop.time(), free[0]) + SECONDS
                heapq.heapreplace(free, done)
                await asyncio.sleep(done - loop.time())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", PORT, backlog=1024)
    await server.serve_forever()


asyncio.run(main())
