"""A gNB with users behind it, and a host of the data network: ``python3 gnb_program.py gnb|data ...``.

Standard library only. The gNB answers Echo Requests, counts End Markers, and on demand (a JSON line on its
control socket) sends a user's datagrams through the tunnel and checks every one that comes back. The messages
are put together here from TS 29.281 and TS 38.415 and share no code with the product.
"""

from __future__ import annotations

import argparse
import collections
import ipaddress
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GTPU = 2152
ECHO_REQUEST, ECHO_RESPONSE, ERROR_INDICATION, END_MARKER, G_PDU = 1, 2, 26, 254, 255
PSC = 0x85
RESTART_COUNTER = 7
Inner = tuple[str, str, int, int, bytes]
"""Source, destination, their ports, payload of a user's datagram."""


class WrongError(Exception):
    """A packet is not as it should be."""


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(source: bytes, destination: bytes, length: int) -> bytes:
    """What a UDP checksum covers beside the datagram."""
    return source + destination + struct.pack(">IHBB", length, 0, 0, socket.IPPROTO_UDP)


def datagram(source: str, destination: str, sport: int, dport: int, payload: bytes) -> bytes:
    """An IP packet with a UDP datagram in it."""
    a, b = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    length = 8 + len(payload)
    udp = struct.pack(">HHHH", sport, dport, length, 0) + payload
    udp = (
        udp[:6]
        + struct.pack(">H", checksum(pseudo_header(a.packed, b.packed, length) + udp) or 0xFFFF)
        + payload
    )
    if a.version == 6:
        return struct.pack(">IHBB", 6 << 28, length, socket.IPPROTO_UDP, 64) + a.packed + b.packed + udp
    header = (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, socket.IPPROTO_UDP, 0) + a.packed + b.packed
    )
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + udp


def read_datagram(packet: bytes) -> Inner:
    """The reverse, with every checksum looked at."""
    if not packet:
        raise WrongError("an empty inner packet")
    if packet[0] >> 4 == 4:
        if checksum(packet[:20]):
            raise WrongError("inner IPv4 checksum")
        total, protocol = struct.unpack(">H", packet[2:4])[0], packet[9]
        source, destination, udp = packet[12:16], packet[16:20], packet[20:total]
    else:
        total, protocol = 40 + struct.unpack(">H", packet[4:6])[0], packet[6]
        source, destination, udp = packet[8:24], packet[24:40], packet[40:total]
    if total != len(packet):
        raise WrongError(f"inner length {total} in {len(packet)} bytes")
    if protocol != socket.IPPROTO_UDP:
        raise WrongError(f"inner protocol {protocol}")
    if checksum(pseudo_header(source, destination, len(udp)) + udp):
        raise WrongError("inner UDP checksum")
    sport, dport = struct.unpack(">HH", udp[:4])
    return (
        str(ipaddress.ip_address(source)),
        str(ipaddress.ip_address(destination)),
        sport,
        dport,
        udp[8:],
    )


def g_pdu(teid: int, inner: bytes, qfi: int | None) -> bytes:
    """A G-PDU, with an uplink PDU Session Container where there is a QFI."""
    if qfi is None:
        return struct.pack(">BBHI", 0x30, G_PDU, len(inner), teid) + inner
    extension = struct.pack(">HBB", 0, 0, PSC) + bytes((1, 0x10, qfi, 0))
    return struct.pack(">BBHI", 0x34, G_PDU, len(extension) + len(inner), teid) + extension + inner


def read_g_pdu(message: bytes) -> tuple[int, int | None, bytes]:
    """TEID, QFI of a downlink PDU Session Container, inner packet."""
    flags, _, length, teid = struct.unpack(">BBHI", message[:8])
    if length != len(message) - 8:
        raise WrongError(f"GTP-U length {length} in {len(message)} bytes")
    at, qfi, kind = 8, None, 0
    if flags & 7:
        kind, at = message[11], 12
    while flags & 4 and kind:
        size = message[at] * 4
        if kind == PSC:
            if message[at + 1] >> 4:
                raise WrongError("PDU Session Container that is not downlink")
            qfi = message[at + 2] & 63
        kind, at = message[at + size - 1], at + size
    return teid, qfi, message[at:]


class Gnb:
    """Sockets on port 2152 of each address."""

    def __init__(self, addresses: list[str]) -> None:
        self.sockets: dict[str, socket.socket] = {}
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            made.bind((address, GTPU))
            self.sockets[address] = made
        self.counts: collections.Counter[str] = collections.Counter()

    def poll(self, seconds: float, take: Callable[[str, str, bytes], None]) -> None:
        """Wait at most so long for messages; G-PDUs go to ``take`` (own address, sender, message)."""
        names = {made: address for address, made in self.sockets.items()}
        readable, _, _ = select.select(list(names), [], [], max(0.0, seconds))
        for made in readable:
            message, sender = made.recvfrom(65535)
            if len(message) < 8 or message[0] >> 4 != 3:
                self.counts["notGtpu"] += 1
            elif message[1] == ECHO_REQUEST:
                self.counts["echoRequests"] += 1
                answer = struct.pack(">BBHI", 0x32, ECHO_RESPONSE, 6, 0) + message[8:10]
                made.sendto(answer + bytes((0, 0, 14, RESTART_COUNTER)), sender)
            elif message[1] == END_MARKER:
                self.counts[f"endMarkers at {names[made]}"] += 1
            elif message[1] == ERROR_INDICATION:
                self.counts["errorIndications"] += 1
            elif message[1] == G_PDU:
                take(names[made], sender[0], message)

    def flow(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Send a user's datagrams through the tunnel and check the answers.

        ``wanted``: local (the GTP-U address), uplinkTeid, at (own address -> [downlink TEID, QFI or null]),
        ue, host, port, rate and seconds; with ``stream`` one datagram asks the host for a stream of that
        rate, and what comes down is counted. The uplink leaves from where the last downlink packet arrived.
        """
        ends = wanted["at"]
        current = next(iter(ends))
        rate, seconds = wanted["rate"], wanted["seconds"]
        stream = bool(wanted.get("stream"))
        sport = 20000 + time.monotonic_ns() // 1000 % 40000
        number = int(rate * seconds)
        waiting: set[bytes] = set()
        errors: collections.Counter[str] = collections.Counter()
        arrived: collections.Counter[str] = collections.Counter()
        seen: collections.Counter[str] = collections.Counter()
        sent = answered = 0

        def take(own: str, sender: str, message: bytes) -> None:
            nonlocal answered, current
            try:
                teid, qfi, packet = read_g_pdu(message)
                inner = read_datagram(packet)
            except (WrongError, struct.error, IndexError) as error:
                errors[str(error)] += 1
                return
            if inner[:4] != (wanted["host"], wanted["ue"], wanted["port"], sport):
                return  # of an earlier flow
            if sender != wanted["local"]:
                errors[f"outer source {sender}"] += 1
            if [teid, qfi] != ends.get(own):
                errors[f"TEID {teid}, QFI {qfi} at {own}"] += 1
            client, _, text = inner[4].partition(b" ")
            if text not in waiting:
                errors["answer to no request, or twice"] += 1
                return
            waiting.discard(text)
            seen[client.decode()] += 1
            answered += 1
            arrived[own] += 1
            current = own

        def send(text: bytes) -> None:
            inner = datagram(wanted["ue"], wanted["host"], sport, wanted["port"], text)
            message = g_pdu(wanted["uplinkTeid"], inner, ends[current][1])
            self.sockets[current].sendto(message, (wanted["local"], GTPU))

        start = time.monotonic()
        if stream:
            waiting.update(str(i).encode() for i in range(number))
            send(f"stream {rate} {number}".encode())
            sent = number
        end = start + seconds
        while (now := time.monotonic()) < end + 2:
            while not stream and now < end and sent < min(number, int((now - start) * rate) + 1):
                text = f"{sent}-{'x' * wanted.get('size', 16)}".encode()
                waiting.add(text)
                send(text)
                sent += 1
            if sent >= number and not waiting:
                break
            self.poll(0.5 / rate if sent < number else 0.05, take)
        return {
            "sent": sent,
            "answered": answered,
            "errors": errors,
            "arrived": arrived,
            "seen": seen,
            "counts": self.counts,
        }


def gnb(options: argparse.Namespace) -> None:
    """Run the gNB until killed; each connection to the control socket is one flow."""
    station = Gnb(options.address)
    path = Path(options.control)
    path.unlink(missing_ok=True)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(str(path))
    control.listen()
    control.setblocking(False)
    while True:
        station.poll(0.05, lambda own, sender, message: None)
        try:
            connection, _ = control.accept()
        except BlockingIOError:
            continue
        connection.setblocking(True)
        with connection, connection.makefile("rw") as lines:
            line = lines.readline()
            if not line:
                continue  # somebody looked whether this runs
            try:
                answer = station.flow(json.loads(line))
            except Exception as error:
                answer = {"failed": f"{type(error).__name__}: {error}"}
            lines.write(json.dumps(answer) + "\n")


def data(options: argparse.Namespace) -> None:
    """A host that says who asked and what: "<address> <text>"; "stream <rate> <count>" asks for many."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        server.bind(("::", options.port))
        while True:
            text, client = server.recvfrom(65535)
            name = client[0].removeprefix("::ffff:").encode()
            if text.startswith(b"stream "):
                _, rate, count = text.split()
                threading.Thread(
                    target=_stream, args=(server, client, name, float(rate), int(count)), daemon=True
                ).start()
            else:
                server.sendto(name + b" " + text, client)


def _stream(server: socket.socket, client: Any, name: bytes, rate: float, count: int) -> None:
    start = time.monotonic()
    for number in range(count):
        while (ahead := start + number / rate - time.monotonic()) > 0:
            time.sleep(ahead)
        server.sendto(name + b" " + str(number).encode(), client)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    modes = parser.add_subparsers(required=True)
    station = modes.add_parser("gnb")
    station.add_argument("control", help="path of the control socket")
    station.add_argument("address", nargs="+", help="own addresses")
    station.set_defaults(run=gnb)
    host = modes.add_parser("data")
    host.add_argument("port", type=int)
    host.set_defaults(run=data)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
