"""Network namespaces, a host link and sockets in them, for the engine's contract tests."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyroute2 import netns

HOST_MAC = bytes.fromhex("027670700001")
ENGINE_MAC = bytes.fromhex("027670700002")

SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
ETH_P_ALL = 3

NEEDS_CSUM = 1
GSO_TCP4 = 1
GSO_TCP6 = 4
GSO_UDP_L4 = 5

_VNET = struct.Struct("<BBHHHH")
_counter = itertools.count()
_Result = TypeVar("_Result")


def run(*command: str) -> str:
    """Run a command; its error output becomes part of the exception."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


class Namespace:
    """A network namespace of this test."""

    def __init__(self, label: str) -> None:
        self.name = f"vppct{os.getpid()}-{next(_counter)}-{label}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def delete(self) -> None:
        """Remove it with all that is in it."""
        run("ip", "netns", "delete", self.name)

    def ip(self, *arguments: str) -> str:
        """Run ip(8) in it."""
        return run("ip", "-netns", self.name, *arguments)

    def sysctl(self, name: str, value: int) -> None:
        """Set net.`name` in it (dots are slashes, so that interface names may have dots)."""
        self.call(lambda: write(f"/proc/sys/net/{name}", f"{value}\n"))

    def command(self, *command: str) -> list[str]:
        """Return a command line that runs in it, under the same process id."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Run a function in a thread that has entered it; sockets made there stay in it."""
        results: list[_Result] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                netns.setns(self.name)
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Make a socket in it."""
        return self.call(lambda: socket.socket(family, kind, protocol))


def write(path: str, text: str) -> None:
    """Write a file of /proc."""
    with open(path, "w") as file:
        file.write(text)


@contextlib.contextmanager
def namespaces(*labels: str) -> Iterator[list[Namespace]]:
    """Make namespaces and remove them at the end."""
    made: list[Namespace] = []
    try:
        for label in labels:
            made.append(Namespace(label))
        yield made
    finally:
        for namespace in made:
            namespace.delete()


def add_host_link(namespace: Namespace, mtu: int = 1500) -> None:
    """Make the engine's link as the node's agent does: vpp0 for the host, vpp1 for the engine."""
    namespace.ip(
        *("link", "add", "vpp0", "mtu", str(mtu), "address", HOST_MAC.hex(":"), "type", "veth"),
        *("peer", "name", "vpp1", "mtu", str(mtu)),
    )
    for name in ("vpp0", "vpp1"):
        namespace.ip("link", "set", name, "addrgenmode", "none")
        namespace.ip("link", "set", name, "up")


@dataclass(frozen=True)
class Offload:
    """The virtio-net header of a frame: what is left to be done to it."""

    flags: int = 0
    gso_type: int = 0
    header_length: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    @property
    def partial(self) -> bool:
        """The checksum is still to be computed."""
        return bool(self.flags & NEEDS_CSUM)

    def pack(self) -> bytes:
        """Return its 10 bytes."""
        return _VNET.pack(
            self.flags,
            self.gso_type,
            self.header_length,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        )


@dataclass(frozen=True)
class Frame:
    """A received frame, its IP packet and its open offloads (offsets count from the Ethernet header)."""

    destination: bytes
    source: bytes
    packet: bytes
    offload: Offload


class Wire:
    """The host's end of the link, by a packet socket: sends to the engine and sees all that comes back."""

    def __init__(self, namespace: Namespace, interface: str = "vpp0") -> None:
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
        self._socket.setblocking(False)
        namespace.call(lambda: self._socket.bind((interface, ETH_P_ALL)))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, packet: bytes, offload: Offload | None = None) -> None:
        """Send an IP packet to the engine."""
        ethertype = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
        head = (offload or Offload()).pack()
        self._socket.send(head + ENGINE_MAC + HOST_MAC + ethertype + packet)

    def receive(self, timeout: float = 2.0) -> Frame | None:
        """Return the next frame that carries an IP packet, or None."""
        end = time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            if left < 0 or not select.select([self._socket], [], [], left)[0]:
                return None
            raw = self._socket.recv(70000)
            offload, ethernet = Offload(*_VNET.unpack(raw[:10])), raw[10:]
            if ethernet[12:14] in (b"\x08\x00", b"\x86\xdd") and ethernet[:6] == HOST_MAC:
                return Frame(ethernet[:6], ethernet[6:12], ethernet[14:], offload)

    def exchange(self, packet: bytes, offload: Offload | None = None) -> Frame:
        """Send a packet and return the one that comes back."""
        self.send(packet, offload)
        frame = self.receive()
        assert frame is not None, "the engine answered nothing"
        return frame

    def expect_nothing(self, timeout: float = 0.3) -> None:
        """Fail if a packet comes."""
        frame = self.receive(timeout)
        assert frame is None, f"unexpected: {frame}"

    def drain(self) -> list[Frame]:
        """Return what has come, and what comes within a moment."""
        frames = []
        while (frame := self.receive(0.2)) is not None:
            frames.append(frame)
        return frames


_PTRACE_DETACH, _PTRACE_SEIZE, _PTRACE_INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000


@contextlib.contextmanager
def held_back(process: int, thread: str, seconds: float) -> Iterator[None]:
    """Keep a process's thread of that name from running, at a moment when it is at work.

    It goes on after so many seconds, and no later than the end of the block.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    tasks = {(t / "comm").read_text().strip(): t for t in Path(f"/proc/{process}/task").iterdir()}
    task = tasks[thread]
    number = int(task.name)
    held, over = threading.Event(), threading.Event()

    def ptrace(request: int) -> None:
        if libc.ptrace(request, number, None, None):
            raise OSError(ctypes.get_errno(), "ptrace")

    def run() -> None:  # all from one thread: that is the tracer
        ptrace(_PTRACE_SEIZE)
        while True:
            ptrace(_PTRACE_INTERRUPT)
            os.waitpid(number, _WALL)
            if (task / "syscall").read_text().startswith("-1 "):
                break  # in no system call
            ptrace(_PTRACE_DETACH)
            time.sleep(0.001)
            ptrace(_PTRACE_SEIZE)
        held.set()
        over.wait(seconds)
        ptrace(_PTRACE_DETACH)

    holding = threading.Thread(target=run)
    holding.start()
    try:
        assert held.wait(10), f"{thread} is never at work"
        yield
    finally:
        over.set()
        holding.join()
