"""Opens connections to the tests' server and keeps them; run in a pod. Standard library only.

``python3 -c <this> HOST PORT COUNT``: prints {"servers": [...]} when all are open. The first half is used
twice a second, the second half stays idle. A line "check" on standard input uses every connection once and
prints {"alive": n, "moved": n, "lost": [...]}: moved are those that another server answered.
"""

from __future__ import annotations

import json
import select
import socket
import sys


class Connection:
    def __init__(self, host: str, port: int, number: int) -> None:
        self.number = number
        self.used = 0
        self.socket = socket.create_connection((host, port), 10)
        self.error = ""
        self.server = ""
        self.server = self.use()

    def use(self) -> str:
        """Send a line, read it back; returns the server's name, "" when the connection is lost."""
        self.used += 1
        line = f"{self.number} {self.used}"
        try:
            self.socket.settimeout(90)  # longer than an engine may be away: TCP sends again
            self.socket.sendall(line.encode() + b"\n")
            reply = b""
            while not reply.endswith(b"\n"):
                more = self.socket.recv(4096)
                if not more:
                    raise ConnectionError("closed by the other side")
                reply += more
        except OSError as error:
            self.error = f"connection {self.number}: {type(error).__name__}: {error}"
            return ""
        server, _, rest = reply.decode().strip().split(" ", 2)
        if rest != line:
            self.error = f"connection {self.number}: sent {line!r}, got {rest!r}"
            return ""
        return server


def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    connections = [Connection(host, port, number) for number in range(count)]
    print(json.dumps({"servers": [connection.server for connection in connections]}), flush=True)
    busy = connections[: count // 2]
    while True:
        asked, _, _ = select.select([sys.stdin], [], [], 0.5)
        if asked:
            if not sys.stdin.readline():
                return
            seen = [connection.error or connection.use() for connection in connections]
            lost = [connection.error for connection in connections if connection.error]
            pairs = zip(connections, seen, strict=True)
            moved = sum(server != connection.server for connection, server in pairs if not connection.error)
            report = {"alive": len(connections) - len(lost) - moved, "moved": moved, "lost": lost[:10]}
            print(json.dumps(report), flush=True)
        else:
            for connection in busy:
                if not connection.error:
                    connection.use()


if __name__ == "__main__":
    main()
