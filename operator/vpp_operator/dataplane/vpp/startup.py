"""VPP's startup.conf, rendered. Pure.

Reference: VPP 26.06, docs/configuration/reference.rst; the section ``khost`` is this project's plugin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "HEAP_BYTES",
    "PAGE_BYTES",
    "PLUGINS",
    "StartupConf",
    "StartupError",
    "buffer_memory",
    "huge_memory",
    "render_startup",
]

PLUGINS = ("af_packet", "khost", "klb", "kgtpu")
"""Everything that is loaded: a plugin that is not there can neither fail nor be attacked."""
PAGE_BYTES = {"2M": 2 << 20, "1G": 1 << 30}
HEAP_BYTES = 256 << 20
"""Main heap: graph, FIB and messages. Services and tunnels lie in the region."""
BUFFER_BYTES = 2304
"""One packet buffer: 2,048 bytes of data, its header and headroom."""
_ORDINARY_PAGE = 4096
_ORDINARY_SHARE = 11, 8
"""On ordinary pages VPP takes a page for each buffer that is asked for, lays buffers end to end and leaves
out those that cross two pages: 8 are left of 11."""
_WORD = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")
_MIB = 1 << 20


class StartupError(ValueError):
    """A field cannot be written into startup.conf; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class StartupConf:
    """What one VPP starts with.

    ``directory``: its runtime directory, with the sockets api.sock, cli.sock and stats.sock.
    """

    directory: Path
    region: Path | None
    """File of the tables and sessions, which a restarted engine goes on with; None: the plugins are loaded
    and have nothing to do."""
    workers: int = 1
    """Threads that only forward packets; 0: the main thread forwards."""
    main_core: int | None = None
    """CPU of the main thread; None: the first that the process may use, the workers on the next ones."""
    buffers: int = 16384
    """Packet buffers per NUMA node."""
    page_size: str | None = None
    """Page size of buffers and heap, "2M" or "1G"; None: ordinary pages."""
    heap_bytes: int = HEAP_BYTES
    rx_queues: int = 1
    """Receive queues of each link; never less than one for each thread that forwards."""
    capacity: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the region's tables by name, as in sessions; the others are the plugin's defaults."""
    interfaces: tuple[str, ...] = ("vpp1",)
    """Engine's ends of host links; each may be absent, and is taken when it comes."""
    ethernet_interface: str | None = "vppe1"
    """Engine's end of the link for tunnels that carry Ethernet."""
    plugin_path: Path | None = None
    """Directory of VPP's own plugins; None: beside its program."""
    extra_plugin_paths: tuple[Path, ...] = ()
    """Directories with more plugins."""
    plugins: tuple[str, ...] = PLUGINS
    extra: tuple[str, ...] = ()
    """Lines at the end, as they are."""

    @property
    def api_socket(self) -> Path:
        """Socket of the binary API."""
        return self.directory / "api.sock"

    @property
    def cli_socket(self) -> Path:
        """Socket of vppctl."""
        return self.directory / "cli.sock"

    @property
    def stats_socket(self) -> Path:
        """Socket that gives the statistics segment."""
        return self.directory / "stats.sock"


def _word(name: str, value: object) -> str:
    """Return a value that stands for itself in startup.conf, where space and braces have a meaning."""
    text = str(value)
    if not _WORD.fullmatch(text):
        raise StartupError(f"{name}: {text!r} holds a character that startup.conf cannot hold; leave it out")
    return text


def _number(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise StartupError(f"{name}: {value} is not within {low}..{high}")
    return value


def _section(name: str, lines: Iterable[str]) -> str:
    return "".join([f"{name} {{\n", *(f"  {line}\n" for line in lines), "}\n"])


def _cpu(conf: StartupConf) -> Iterable[str]:
    if conf.main_core is None:
        # Among the CPUs that the container may use, not among all of the machine.
        yield "relative"
        yield "main-core 0"
    else:
        yield f"main-core {_number('main_core', conf.main_core, 0, 1023)}"
    if _number("workers", conf.workers, 0, 64):
        yield f"workers {conf.workers}"


def _plugins(conf: StartupConf) -> Iterable[str]:
    if conf.plugin_path is not None:
        yield f"path {_word('plugin_path', conf.plugin_path)}"
    for path in conf.extra_plugin_paths:
        yield f"add-path {_word('extra_plugin_paths', path)}"
    yield "plugin default { disable }"
    for name in conf.plugins:
        yield f"plugin {_word('plugins', name)}_plugin.so {{ enable }}"


def _khost(conf: StartupConf, region: Path) -> Iterable[str]:
    yield f"region {_word('region', region)}"
    for name in conf.interfaces:
        yield f"interface {_word('interfaces', name)}"
    if conf.ethernet_interface is not None:
        yield f"ethernet-interface {_word('ethernet_interface', conf.ethernet_interface)}"
    if _number("rx_queues", conf.rx_queues, 1, 64) > 1:
        yield f"rx-queues {conf.rx_queues}"
    for name, size in conf.capacity.items():
        yield f"{_word('capacity', name)} {_number(f'capacity.{name}', size, 1, 1 << 24)}"


def render_startup(conf: StartupConf) -> str:
    """Return the text of startup.conf.

    Raises:
        StartupError: a field cannot be written; it is named.
    """
    if conf.page_size is not None and conf.page_size not in PAGE_BYTES:
        raise StartupError(
            f"page_size: {conf.page_size!r} is none of {', '.join(PAGE_BYTES)}; or leave it out"
        )
    page = conf.page_size or "default"
    heap = _number("heap_bytes", conf.heap_bytes, 64 * _MIB, 64 << 30)
    if conf.page_size is not None:
        heap = _rounded(heap, PAGE_BYTES[conf.page_size])
    sections = [
        _section(
            "unix",
            [
                "nodaemon",
                "nosyslog",
                f"runtime-dir {_word('directory', conf.directory)}",
                f"cli-listen {_word('directory', conf.cli_socket)}",
            ],
        ),
        # Shared memory is by name for all of a machine's VPPs that see one /dev/shm.
        _section("api-segment", [f"prefix {str(conf.directory).strip('/').replace('/', '-')}"]),
        _section("socksvr", [f"socket-name {_word('directory', conf.api_socket)}"]),
        _section("statseg", [f"socket-name {_word('directory', conf.stats_socket)}", "page-size default"]),
        _section("memory", [f"main-heap-size {heap // _MIB}M", f"main-heap-page-size {page}"]),
        _section(
            "buffers",
            [
                f"buffers-per-numa {_asked_buffers(conf)}",
                f"page-size {page}",
            ],
        ),
        _section("cpu", _cpu(conf)),
        _section("plugins", _plugins(conf)),
    ]
    if "khost" in conf.plugins and conf.region is not None:
        sections.append(_section("khost", _khost(conf, conf.region)))
    return "".join([*sections, *(f"{line}\n" for line in conf.extra)])


def _rounded(size: int, page: int) -> int:
    return -(-size // page) * page


def _asked_buffers(conf: StartupConf) -> int:
    """Return the number to ask for, so that at least ``conf.buffers`` come of it."""
    wanted = _number("buffers", conf.buffers, 1024, 16777216)
    if conf.page_size is not None:
        return wanted
    more, less = _ORDINARY_SHARE
    return -(-wanted * more // less)


def buffer_memory(conf: StartupConf) -> int:
    """Return the bytes of the packet buffers of one NUMA node."""
    if conf.page_size is None:
        return _asked_buffers(conf) * _ORDINARY_PAGE
    return _rounded(conf.buffers * BUFFER_BYTES, PAGE_BYTES[conf.page_size])


def huge_memory(conf: StartupConf, numa_nodes: int = 1) -> int:
    """Return the bytes that need huge pages, 0 without: buffers of each NUMA node, and the heap."""
    if conf.page_size is None:
        return 0
    return numa_nodes * buffer_memory(conf) + _rounded(conf.heap_bytes, PAGE_BYTES[conf.page_size])
