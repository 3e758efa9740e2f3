"""The engine's JSON answers, checked, as the protocol's types."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from vpp_operator.dataplane.protocol import EngineInfo, EngineStats, PathStats, TableStats
from vpp_operator.dataplane.wire import WireError

__all__ = ["decode_info", "decode_stats"]


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True, extra="ignore")


class _Info(_Model):
    engine: str
    version: str
    creation_id: str
    boot_id: str
    layout: str
    attached: bool
    kept_sessions: int
    workers: int
    capacity: dict[str, int]
    interfaces: list[str]
    vpp_version: str = ""
    gtpu_switches: dict[str, str] = {}  # an engine of the release before has none


class _Path(_Model):
    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    clocks: int
    packets: int


class _Table(_Model):
    size: int
    used: int
    bytes: int


class _Stats(_Model):
    now_ns: int
    counters: dict[str, int]
    drops: dict[str, int]
    paths: dict[str, _Path]
    tables: dict[str, _Table]
    sessions: int
    gtpu_switches: dict[str, str] = {}  # an engine of the release before has none


def decode_info(text: bytes) -> EngineInfo:
    """Read the answer to INFO; raise WireError naming what is missing or of the wrong type."""
    try:
        return EngineInfo(**_Info.model_validate_json(text).model_dump())
    except ValidationError as error:
        raise WireError(f"INFO: {error}") from error


def decode_stats(text: bytes) -> EngineStats:
    """Read the answer to STATS; raise WireError naming what is missing or of the wrong type."""
    try:
        stats = _Stats.model_validate_json(text)
    except ValidationError as error:
        raise WireError(f"STATS: {error}") from error
    return EngineStats(
        now_ns=stats.now_ns,
        counters=stats.counters,
        drops=stats.drops,
        paths={name: PathStats(**path.model_dump()) for name, path in stats.paths.items()},
        tables={name: TableStats(**table.model_dump()) for name, table in stats.tables.items()},
        sessions=stats.sessions,
        gtpu_switches=stats.gtpu_switches,
    )
