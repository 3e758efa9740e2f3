"""VPP's startup.conf: what each setting becomes, and what cannot be written into it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vpp_operator.dataplane.vpp.startup import (
    StartupConf,
    StartupError,
    buffer_memory,
    huge_memory,
    render_startup,
)

RUN = Path("/run/vpp-operator")


def sections(text: str) -> dict[str, list[str]]:
    """Read the rendered text back: name of each section -> its lines."""
    found: dict[str, list[str]] = {}
    for match in re.finditer(r"^(\S+) \{\n(.*?)^\}$", text, re.MULTILINE | re.DOTALL):
        assert match[1] not in found, "a section is there once"
        found[match[1]] = [line.strip() for line in match[2].splitlines()]
    return found


def rendered(**changes: Any) -> dict[str, list[str]]:
    return sections(render_startup(StartupConf(RUN / "vpp", RUN / "region", **changes)))


def test_without_huge_pages_nothing_asks_for_them() -> None:
    found = rendered(workers=2, buffers=16384)
    assert set(found) == {
        "unix", "api-segment", "socksvr", "statseg", "memory", "buffers", "cpu", "plugins", "khost",
    }  # fmt: skip
    assert found["memory"] == ["main-heap-size 256M", "main-heap-page-size default"]
    # 16,439 buffers came of it on VPP 26.06; of 16,384 asked for, 11,956.
    assert found["buffers"] == ["buffers-per-numa 22528", "page-size default"]
    assert "page-size default" in found["statseg"]
    assert found["cpu"] == ["relative", "main-core 0", "workers 2"]
    assert found["unix"][:2] == ["nodaemon", "nosyslog"]
    assert found["socksvr"] == ["socket-name /run/vpp-operator/vpp/api.sock"]


def test_huge_pages_hold_buffers_and_heap_in_whole_pages() -> None:
    conf = StartupConf(RUN / "vpp", RUN / "region", page_size="1G", buffers=20000)
    found = sections(render_startup(conf))
    assert found["memory"] == ["main-heap-size 1024M", "main-heap-page-size 1G"]
    assert found["buffers"] == ["buffers-per-numa 20000", "page-size 1G"]
    assert huge_memory(conf, numa_nodes=2) == 3 << 30


def test_the_same_buffers_cost_more_on_ordinary_pages() -> None:
    ordinary = StartupConf(RUN, RUN / "region", buffers=16384)
    huge = StartupConf(RUN, RUN / "region", buffers=16384, page_size="2M")
    assert (buffer_memory(ordinary), buffer_memory(huge)) == (92274688, 37748736)
    assert huge_memory(ordinary) == 0


def test_threads_are_placed_by_number_only_where_it_was_asked_for() -> None:
    assert rendered(main_core=3, workers=4)["cpu"] == ["main-core 3", "workers 4"]
    assert rendered(workers=0)["cpu"] == ["relative", "main-core 0"]


def test_only_the_listed_plugins_are_loaded() -> None:
    found = rendered(plugin_path=Path("/usr/lib/a"), extra_plugin_paths=(Path("/usr/lib/b"),))["plugins"]
    assert found == [
        "path /usr/lib/a",
        "add-path /usr/lib/b",
        "plugin default { disable }",
        *(f"plugin {name}_plugin.so {{ enable }}" for name in ("af_packet", "khost", "klb", "kgtpu")),
    ]
    assert "khost" not in rendered(plugins=("af_packet",)), "its section would be unknown without it"
    without = sections(render_startup(StartupConf(RUN, None)))
    assert "khost" not in without and "plugin khost_plugin.so { enable }" in without["plugins"]


def test_the_region_its_links_and_capacities() -> None:
    found = rendered(interfaces=("vpp1", "eth1.5"), capacity={"sessions": 4096, "tunnels": 1024})["khost"]
    assert found == [
        "region /run/vpp-operator/region",
        "interface vpp1",
        "interface eth1.5",
        "ethernet-interface vppe1",
        "sessions 4096",
        "tunnels 1024",
    ]


def test_more_receive_queues_than_threads_are_asked_for() -> None:
    assert "rx-queues 4" in rendered(rx_queues=4)["khost"]
    assert not [line for line in rendered()["khost"] if line.startswith("rx-queues")]


def test_two_directories_share_nothing() -> None:
    one, other = (sections(render_startup(StartupConf(RUN / name, RUN / "region"))) for name in "ab")
    assert one["api-segment"] != other["api-segment"] and one["socksvr"] != other["socksvr"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"interfaces": ("vpp1 } unix { exec /x",)}, "interfaces"),
        ({"ethernet_interface": ""}, "ethernet_interface"),
        ({"region": Path("/a b")}, "region"),
        ({"directory": Path("/a\nunix { exec /x }")}, "directory"),
        ({"plugins": ("x}",)}, "plugins"),
        ({"capacity": {"sessions": 0}}, "capacity.sessions"),
        ({"capacity": {"a b": 1}}, "capacity"),
        ({"workers": -1}, "workers"),
        ({"workers": 65}, "workers"),
        ({"rx_queues": 0}, "rx_queues"),
        ({"rx_queues": 65}, "rx_queues"),
        ({"main_core": 1024}, "main_core"),
        ({"buffers": 16}, "buffers"),
        ({"heap_bytes": 1}, "heap_bytes"),
        ({"page_size": "4K"}, "page_size"),
    ],
)
def test_what_startup_conf_cannot_hold_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(StartupError, match=f"^{re.escape(named)}: "):
        render_startup(StartupConf(**{"directory": RUN, "region": RUN / "region"} | changes))
