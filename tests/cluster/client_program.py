"""A client that runs in a pod, on a node or outside: ``python3 - <mode> ... < client_program.py``; prints
JSON.

Standard library only, because it is sent to wherever it has to run. Every mode counts what was sent and what
was answered, and names what went wrong.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import ipaddress
import json
import secrets
import socket
import struct
import time
from typing import Any

Result = dict[str, Any]


def get(options: argparse.Namespace) -> Result:
    """HTTP requests one after the other, each over a connection of its own."""
    bodies: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    for _ in range(options.count):
        connection = http.client.HTTPConnection(options.host, options.port, timeout=options.timeout)
        try:
            connection.request("GET", options.path)
            response = connection.getresponse()
            body = response.read().decode()
            if response.status == 200:
                bodies[body] += 1
            else:
                errors[f"status {response.status}"] += 1
        except OSError as error:
            errors[f"{type(error).__name__}: {error}"] += 1
        finally:
            connection.close()
    return {"sent": options.count, "answered": bodies.total(), "bodies": bodies, "errors": errors}


def udp(options: argparse.Namespace) -> Result:
    """Datagrams at a steady rate from one socket to agnhost's UDP server, which answers "echo <text>" with
    the text."""
    rate, seconds = options.rate, options.seconds
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    waiting: set[bytes] = set()
    sent = answered = foreign = 0
    with socket.socket(family, socket.SOCK_DGRAM) as flow:
        flow.connect((options.host, options.port))
        flow.setblocking(False)
        start = time.monotonic()
        end = start + seconds
        while (now := time.monotonic()) < end + options.timeout:
            while now < end and sent < (now - start) * rate:
                text = f"{sent}-{secrets.token_hex(8)}".encode()
                flow.send(b"echo " + text)
                waiting.add(text)
                sent += 1
            try:
                while True:
                    reply = flow.recv(2048)
                    if reply in waiting:
                        waiting.discard(reply)
                        answered += 1
                    else:
                        foreign += 1
            except BlockingIOError:
                pass
            if now >= end and not waiting:
                break
            time.sleep(0.001)
    errors = {"answers that were not asked for": foreign} if foreign else {}
    return {"sent": sent, "answered": answered, "bodies": {}, "errors": errors}


def datagrams(options: argparse.Namespace) -> Result:
    """Datagrams of ``size`` bytes, each from a socket of its own; an answer ends with what was sent."""
    bodies: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    for _ in range(options.count):
        data = secrets.token_hex(options.size)[: options.size].encode()
        with socket.socket(family, socket.SOCK_DGRAM) as flow:
            flow.settimeout(options.timeout)
            flow.connect((options.host, options.port))
            try:
                flow.send(data)
                reply = flow.recv(65536)
            except OSError as error:
                errors[f"{type(error).__name__}: {error}"] += 1
                continue
        if reply.endswith(data):
            bodies[reply[: -len(data)].decode().strip()] += 1
        else:
            errors["an answer with other contents"] += 1
    return {"sent": options.count, "answered": bodies.total(), "bodies": bodies, "errors": errors}


def dns(options: argparse.Namespace) -> Result:
    """DNS questions over UDP, each from a socket of its own."""
    kind, family = (28, 16) if options.record == "AAAA" else (1, 4)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in options.name.split("."))
    answers: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    for _ in range(options.count):
        identity = secrets.randbits(16)
        question = struct.pack("!6H", identity, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)
        with socket.socket(
            socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_DGRAM
        ) as flow:
            flow.settimeout(options.timeout)
            flow.connect((options.host, options.port))
            try:
                flow.send(question)
                reply = flow.recv(2048)
            except OSError as error:
                errors[f"{type(error).__name__}: {error}"] += 1
                continue
        number, flags, _, count = struct.unpack("!4H", reply[:8])
        if number != identity or flags & 0xF or count == 0:
            errors[f"response code {flags & 0xF}, {count} answers"] += 1
        else:  # the one record of these names is the last thing in the reply
            answers[str(ipaddress.ip_address(reply[-family:]))] += 1
    return {"sent": options.count, "answered": answers.total(), "bodies": answers, "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, default=5.0)
    modes = parser.add_subparsers(required=True)
    mode = modes.add_parser("get")
    mode.set_defaults(run=get)
    mode.add_argument("host")
    mode.add_argument("port", type=int)
    mode.add_argument("path")
    mode.add_argument("count", type=int)
    mode = modes.add_parser("udp")
    mode.set_defaults(run=udp)
    mode.add_argument("host")
    mode.add_argument("port", type=int)
    mode.add_argument("rate", type=float)
    mode.add_argument("seconds", type=float)
    mode = modes.add_parser("datagrams")
    mode.set_defaults(run=datagrams)
    mode.add_argument("host")
    mode.add_argument("port", type=int)
    mode.add_argument("size", type=int)
    mode.add_argument("count", type=int)
    mode = modes.add_parser("dns")
    mode.set_defaults(run=dns)
    mode.add_argument("host")
    mode.add_argument("port", type=int)
    mode.add_argument("name")
    mode.add_argument("record", choices=["A", "AAAA"])
    mode.add_argument("count", type=int)
    options = parser.parse_args()
    print(json.dumps(options.run(options)))


if __name__ == "__main__":
    main()
