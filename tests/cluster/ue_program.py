"""User equipment with a TCP/IP stack of its own, and what it talks to: ``python3 ue_program.py MODE ...``.

Standard library only. ``ue`` runs a command in a network namespace whose packets pass through a tunnel,
``frames`` sends Ethernet frames through one, ``echo`` is the Ethernet host behind it, ``serve`` and ``fetch``
are a TCP server and its client. The messages are put together from TS 29.281 and share no code with the
product.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

GTPU, G_PDU = 2152, 255
MTU = 1400
_GATEWAY = {4: "169.254.1.1", 6: "fe80::1"}
_GATEWAY_MAC = "02:00:00:00:00:01"
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_STATUS_VLAN_VALID = 1 << 4


def g_pdu(teid: int, inner: bytes) -> bytes:
    """A G-PDU without options."""
    return struct.pack(">BBHI", 0x30, G_PDU, len(inner), teid) + inner


def read_g_pdu(message: bytes, teid: int) -> bytes | None:
    """What is in a G-PDU of this TEID without options; None: it is something else."""
    return message[8:] if message[:8] == struct.pack(">BBHI", 0x30, G_PDU, len(message) - 8, teid) else None


def gtpu_socket(own: str) -> socket.socket:
    """A socket on port 2152 of an address."""
    made = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        made.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
    made.bind((own, GTPU))
    return made


# ------------------------------------------------------------------------------------------------- ue


def _ip(*words: object, target: str = "") -> None:
    command = ["nsenter", f"--net={target}"] if target else []
    subprocess.run([*command, *map(str, words)], check=True)


def ue(options: argparse.Namespace) -> int:
    """Run the command as the user; returns its exit status."""
    # /proc may be that of another pid namespace: the shell says by which number it finds itself there.
    read, write = os.pipe()
    script = f'read -r self _ < /proc/self/stat; echo "$self" >&{write}; read -r go; exec "$@"'
    start = ["unshare", "--net", "sh", "-c", script, "sh", *options.command]
    user = subprocess.Popen(start, stdin=subprocess.PIPE, pass_fds=(write,))
    try:
        space = f"/proc/{int(os.read(read, 20))}/ns/net"
        _ip("ip", "link", "add", "ue0", "type", "veth", "peer", "name", "eth0", "netns", user.pid)
        _ip("ip", "link", "set", "ue0", "up")
        # Checksums and segments are made in the user's machine, before the radio.
        off = [word for name in ("tx", "tso", "gso", "gro") for word in (name, "off")]
        subprocess.run(
            ["nsenter", f"--net={space}", "ethtool", "-K", "eth0", *off],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        _ip("ip", "link", "set", "eth0", "mtu", MTU, "up", target=space)
        for address in options.address:
            family = 6 if ":" in address else 4
            length = ["/128", "nodad"] if family == 6 else ["/32"]
            gateway = _GATEWAY[family]
            _ip("ip", "addr", "add", address + length[0], *length[1:], "dev", "eth0", target=space)
            neighbour = ("ip", "neigh", "add", gateway, "lladdr", _GATEWAY_MAC, "dev", "eth0")
            _ip(*neighbour, target=space)
            route = ("ip", f"-{family}", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink")
            _ip(*route, target=space)
        link = subprocess.run(
            ["nsenter", f"--net={space}", "ip", "-brief", "link", "show", "eth0"],
            capture_output=True,
            check=True,
            text=True,
        )
        mac = bytes.fromhex(link.stdout.split()[2].replace(":", ""))
        radio = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        radio.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        radio.bind(("ue0", 3))
        tunnel = gtpu_socket(options.own)
        for work in (_up, _down):
            threading.Thread(target=work, args=(options, radio, tunnel, mac), daemon=True).start()
        assert user.stdin is not None
        user.stdin.write(b"go\n")
        user.stdin.close()
        return user.wait(options.seconds)
    finally:
        user.kill()
        user.wait()
        subprocess.run(["ip", "link", "delete", "ue0"], check=False, stderr=subprocess.DEVNULL)


def _up(options: argparse.Namespace, radio: socket.socket, tunnel: socket.socket, mac: bytes) -> None:
    while True:
        frame, sender = radio.recvfrom(65535)
        # Packets to the gateway; neighbour discovery stays on this side of the radio.
        if sender[2] == socket.PACKET_OUTGOING or frame[:6].hex(":") != _GATEWAY_MAC:
            continue
        if frame[12:14] in (b"\x08\x00", b"\x86\xdd"):
            tunnel.sendto(g_pdu(options.uplink, frame[14:]), (options.to, GTPU))


def _down(options: argparse.Namespace, radio: socket.socket, tunnel: socket.socket, mac: bytes) -> None:
    gateway = bytes.fromhex(_GATEWAY_MAC.replace(":", ""))
    while True:
        message, _ = tunnel.recvfrom(65535)
        packet = read_g_pdu(message, options.downlink)
        if packet:
            kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
            radio.send(mac + gateway + kind + packet)


# --------------------------------------------------------------------------------------------- Ethernet


def frames(options: argparse.Namespace) -> int:
    """Send frames through the tunnel; each comes back with its addresses exchanged."""
    tunnel = gtpu_socket(options.own)
    here, there = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
    answered = 0
    for number in range(options.count):
        text = b"\x88\xb5" + f"frame {number} ".encode().ljust(46 + number % 1000, b".")
        wanted = here + there + text
        for _ in range(options.tries):
            tunnel.sendto(g_pdu(options.uplink, there + here + text), (options.to, GTPU))
            end = time.monotonic() + 1
            while (left := end - time.monotonic()) > 0 and select.select([tunnel], [], [], left)[0]:
                if read_g_pdu(tunnel.recv(65535), options.downlink) == wanted:
                    answered += 1
                    break
            else:
                continue
            break
        else:
            break
    print(answered)
    return 0 if answered == options.count else 1


def echo(options: argparse.Namespace) -> int:
    """Send back what comes in on an interface: in the same VLAN, with the addresses exchanged."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as raw:
        raw.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        raw.bind((options.interface, 3))
        while True:
            frame, ancillary, _, sender = raw.recvmsg(65535, 256)
            vlan = _vlan(frame, ancillary)
            if sender[2] == socket.PACKET_OUTGOING or vlan != options.vlan:
                continue
            body = frame[12:] if frame[12:14] != b"\x81\x00" else frame[16:]
            raw.send(frame[6:12] + frame[:6] + b"\x81\x00" + vlan.to_bytes(2, "big") + body)


def _vlan(frame: bytes, ancillary: list[Any]) -> int:
    if frame[12:14] == b"\x81\x00":
        return int.from_bytes(frame[14:16], "big") & 0xFFF
    for level, kind, data in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = struct.unpack("=IIIHHHH", data[:20])
            if status & _STATUS_VLAN_VALID:
                return int(tci) & 0xFFF
    return 0


# ------------------------------------------------------------------------------------------------- TCP


def _block(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * 2048  # 64 KiB


def serve(options: argparse.Namespace) -> int:
    """Take what a client sends, then send as many blocks; a client tells first how many."""
    with socket.create_server(("::", options.port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(target=_serve, args=(client,), daemon=True).start()


def _serve(client: socket.socket) -> None:
    with client, client.makefile("rwb") as stream:
        count = int.from_bytes(stream.read(4), "big")
        wrong = sum(stream.read(65536) != _block(number) for number in range(count))
        stream.write(wrong.to_bytes(4, "big"))
        for number in range(count):
            stream.write(_block(number))
        stream.flush()


def fetch(options: argparse.Namespace) -> int:
    """Send blocks to the server, and take as many; prints the number of wrong ones, there and here."""
    with socket.create_connection((options.host, options.port), timeout=30) as server:
        with server.makefile("rwb") as stream:
            stream.write(options.count.to_bytes(4, "big"))
            for number in range(options.count):
                stream.write(_block(number))
            stream.flush()
            there = int.from_bytes(stream.read(4), "big")
            here = sum(stream.read(65536) != _block(number) for number in range(options.count))
    print(f"{options.count} {there} {here}")
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    modes = parser.add_subparsers(required=True)
    for run in (ue, frames):
        mode = modes.add_parser(run.__name__)
        mode.add_argument("own", help="own GTP-U address")
        mode.add_argument("to", help="GTP-U address of the other end")
        mode.add_argument("uplink", type=int, help="TEID there")
        mode.add_argument("downlink", type=int, help="TEID here")
        mode.set_defaults(run=run)
        if run is frames:
            mode.add_argument("count", type=int)
            mode.add_argument("--tries", type=int, default=30)
            continue
        mode.add_argument("--address", action="append", required=True)
        mode.add_argument("--seconds", type=float, default=60)
        mode.add_argument("command", nargs=argparse.REMAINDER)
    mode = modes.add_parser("echo")
    mode.add_argument("interface")
    mode.add_argument("vlan", type=int)
    mode.set_defaults(run=echo)
    mode = modes.add_parser("serve")
    mode.add_argument("port", type=int)
    mode.set_defaults(run=serve)
    mode = modes.add_parser("fetch")
    mode.add_argument("host")
    mode.add_argument("port", type=int)
    mode.add_argument("count", type=int)
    mode.set_defaults(run=fetch)
    options = parser.parse_args()
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Threads wait for packets.
    os._exit(code)
