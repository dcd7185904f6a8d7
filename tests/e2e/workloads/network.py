"""A server and its clients in one tree, over loopback TCP and a UNIX socket, with epoll underneath."""

import asyncio
import hashlib
import os

from pace import pace_s

STEPS = 30


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    digest = hashlib.sha256()
    while line := await reader.readline():
        digest.update(line)
        writer.write(digest.hexdigest().encode() + b"\n")
        await writer.drain()
    writer.close()


async def main() -> None:
    tcp = await asyncio.start_server(serve, "127.0.0.1", 0)
    unix = await asyncio.start_unix_server(serve, "socket")  # held: it ends with its object
    port = tcp.sockets[0].getsockname()[1]
    streams = [await asyncio.open_connection("127.0.0.1", port), await asyncio.open_unix_connection("socket")]
    for step in range(STEPS):
        answers = []
        for reader, writer in streams:
            writer.write(f"line {step}\n".encode() * (step + 1))
            answers += [(await reader.readline())[:16].decode() for _ in range(step + 1)][-1:]
        print("step", step, *answers, flush=True)
        await asyncio.sleep(pace_s())
    for _, writer in streams:
        writer.close()
    unix.close()
    os.unlink("socket")


asyncio.run(main())
