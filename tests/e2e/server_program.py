"""Server of the end-to-end tests, run in a pod: TCP on 8080, UDP on 8081, both families. Standard library
only.

TCP speaks HTTP/1.0 for GET /hostname, /clientip and /big (a mebibyte), and otherwise answers each line with
"<host name> <client address> <line>", so that a connection can be kept and used again. UDP answers each
datagram with "<host name> <client address> " and the datagram itself.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

NAME = socket.gethostname().encode()


def plain(address: Any) -> bytes:
    """The client's address, an IPv4 one as such."""
    text: str = address[0]
    return text.removeprefix("::ffff:").encode()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client = plain(writer.get_extra_info("peername"))
    pages = {b"/hostname": NAME, b"/clientip": client, b"/big": b"x" * 2**20}
    try:
        while line := await reader.readline():
            words = line.split()
            if len(words) == 3 and words[0] == b"GET":
                while (await reader.readline()).strip():
                    pass
                body = pages.get(words[1], b"")
                status = b"200 OK" if body else b"404 Not Found"
                writer.write(b"HTTP/1.0 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
                break
            writer.write(b"%b %b %b" % (NAME, client, line))
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport  # the selector's class does not derive from DatagramTransport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(b"%b %b %b" % (NAME, plain(addr), data), addr)


def dual(kind: int, port: int) -> socket.socket:
    """A socket on every address of both families."""
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    return made


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, sock=dual(socket.SOCK_STREAM, 8080), backlog=1024)
    await loop.create_datagram_endpoint(Echo, sock=dual(socket.SOCK_DGRAM, 8081))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
