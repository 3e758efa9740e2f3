"""DataplaneTunings x one node's labels -> the node's resolved settings. Pure.

Field by field: the highest priority that speaks of a field decides it; built-in defaults fill the rest. Of
two tunings of equal priority with different values for one field on one node, the older one
(creationTimestamp, then UID, then name) decides, and the newer is in conflict.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from .base import JsonObject
from .dataplane import DataplaneSpec
from .tuning import (
    EMBEDDED_INTERFACE_DRIVERS,
    MAX_INTERFACES,
    DataplaneTuning,
    DataplaneTuningSpec,
    Engine,
    Hugepages,
    Interface,
    LabelRequirement,
    LabelSelector,
    ResolvedTuning,
)

__all__ = ["Resolution", "TuningConflict", "matches", "resolve"]

# Objects that are one value: their parts make no sense from two tunings.
_WHOLE = (Hugepages,)

# Fields of the spec that say where and with what weight, not what.
_NOT_SETTINGS = frozenset({"node_selector", "priority"})

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class TuningConflict:
    """A value that ``tuning`` asks for is not in effect, because of what ``other`` asks for."""

    tuning: str
    other: str
    field: str
    """Path as in the spec: gtpu.lookupCache, interfaces[eth1].driver."""
    message: str
    """What is wrong and what to do, for the condition of ``tuning``."""


def _equal_priority(newer: DataplaneTuning, older: DataplaneTuning, field: str) -> TuningConflict:
    return TuningConflict(
        newer.metadata.name,
        older.metadata.name,
        field,
        f"{field} differs from the older DataplaneTuning {older.metadata.name} of equal priority on a common "
        "node; the older one decides. Give the two different priorities, or selectors that do not meet.",
    )


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one node gets.

    ``decided`` says which tuning decided each field (path as in the spec); defaults are not in it.
    ``matched``: names of the tunings that select the node, the strongest first.
    """

    spec: DataplaneSpec
    decided: Mapping[str, str]
    matched: tuple[str, ...]
    conflicts: tuple[TuningConflict, ...]


def matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether ``selector`` selects ``labels`` (metav1.LabelSelector; absent or empty: everything)."""
    if selector is None:
        return True
    wanted = selector.match_labels or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(_holds(requirement, labels) for requirement in selector.match_expressions or ())


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in (requirement.values or ())
        case "NotIn":
            return value is None or value not in (requirement.values or ())
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None


def resolve(
    tunings: Iterable[DataplaneTuning],
    labels: Mapping[str, str],
    base: DataplaneSpec | None = None,
) -> Resolution:
    """Return the settings of a node with ``labels``.

    ``base``: the node's spec without tunings (pod prefixes, report step); its settings are the defaults.
    """
    selected = sorted(
        (tuning for tuning in tunings if matches(tuning.spec.node_selector, labels)),
        key=lambda tuning: (-tuning.spec.priority, _age(tuning)),
    )
    values: dict[Path, Any] = {}
    deciders: dict[Path, DataplaneTuning] = {}
    conflicts: list[TuningConflict] = []
    for tuning in selected:
        for path, value in _settings(tuning.spec).items():
            decider = deciders.get(path)
            if decider is None:
                values[path] = value
                deciders[path] = tuning
            elif decider.spec.priority == tuning.spec.priority and values[path] != value:
                conflicts.append(_equal_priority(tuning, decider, _dotted(path)))
    conflicts += _fit(values, deciders)
    return Resolution(
        spec=_apply(base or DataplaneSpec(), values),
        decided={_dotted(path): tuning.metadata.name for path, tuning in deciders.items()},
        matched=tuple(tuning.metadata.name for tuning in selected),
        conflicts=tuple(sorted(conflicts)),
    )


def _fit(values: dict[Path, Any], deciders: dict[Path, DataplaneTuning]) -> list[TuningConflict]:
    """Take out what each tuning may ask for by itself but the Dataplane cannot hold together."""
    conflicts = []
    names = [path[1] for path in values if path[0] == "interfaces" and len(path) == 2]
    for name in names[MAX_INTERFACES:]:
        tuning, strongest = deciders["interfaces", name], deciders["interfaces", names[0]]
        for path in [path for path in values if path[:2] == ("interfaces", name)]:
            del values[path], deciders[path]
        conflicts.append(
            TuningConflict(
                tuning.metadata.name,
                strongest.metadata.name,
                f"interfaces[{name}]",
                f"interfaces[{name}] is left out: the tunings of a node name more than {MAX_INTERFACES} "
                "interfaces. Remove some, or use selectors that do not meet.",
            )
        )
    if values.get(("engine",)) != Engine.EMBEDDED:
        return conflicts
    engine = deciders["engine",]
    for path in [path for path in values if path[0] == "interfaces" and path[-1] == "driver"]:
        if values[path] in EMBEDDED_INTERFACE_DRIVERS:
            continue
        tuning, driver = deciders[path], values[path]
        del values[path], deciders[path]
        conflicts.append(
            TuningConflict(
                tuning.metadata.name,
                engine.metadata.name,
                _dotted(path),
                f"{_dotted(path)} {driver} cannot be used with engine embedded, which DataplaneTuning "
                f"{engine.metadata.name} asks for on a common node; the driver is chosen automatically. "
                "Use engine vpp or auto there, or another driver.",
            )
        )
    return conflicts


def _age(tuning: DataplaneTuning) -> tuple[str, str, str]:
    # RFC 3339 in UTC sorts as text; an object without a time counts as the newest.
    metadata = tuning.metadata
    return (metadata.creation_timestamp or "~", metadata.uid or "", metadata.name)


def _settings(spec: DataplaneTuningSpec) -> dict[Path, Any]:
    """Return every setting that the tuning decides, by its path of Python field names."""
    found: dict[Path, Any] = {}

    def walk(model: BaseModel, path: Path) -> None:
        for name in type(model).model_fields:
            value = getattr(model, name)
            if value is None or (not path and name in _NOT_SETTINGS):
                continue
            if isinstance(value, BaseModel) and not isinstance(value, _WHOLE):
                walk(value, (*path, name))
            else:
                found[*path, name] = value

    walk(spec, ())
    # Interfaces are a list by name: each is decided on its own, and each of its fields.
    for interface in found.pop(("interfaces",), ()):
        found["interfaces", interface.name] = True
        walk(interface, ("interfaces", interface.name))
        del found["interfaces", interface.name, "name"]
    return found


def _dotted(path: Path) -> str:
    """Return a path as users write it."""
    if path[0] == "interfaces":
        return ".".join([f"interfaces[{path[1]}]", *path[2:]])
    owner: type[BaseModel] = DataplaneTuningSpec
    words = []
    for name in path:
        field = owner.model_fields[name]
        words.append(field.alias or name)
        owner = _model_in(field.annotation)
    return ".".join(words)


def _model_in(annotation: Any) -> type[BaseModel]:
    """Return the model in an annotation such as ``GtpuTuning | None``; BaseModel if there is none."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), BaseModel)


def _apply(base: DataplaneSpec, values: Mapping[Path, Any]) -> DataplaneSpec:
    """Return ``base`` with the decided values in it."""
    interfaces: dict[str, JsonObject] = {i.name: i.model_dump() for i in base.interfaces}
    top: JsonObject = {}
    tuning = base.tuning.model_dump()
    for path, value in values.items():
        if path[0] == "interfaces":
            entry = interfaces.setdefault(path[1], {"name": path[1]})
            if len(path) > 2:
                entry[path[2]] = value
        elif len(path) == 1:
            top[path[0]] = value
        else:
            place = tuning
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = value
    return base.model_copy(
        update={
            **top,
            "interfaces": tuple(Interface.model_validate(i) for _, i in sorted(interfaces.items())),
            "tuning": ResolvedTuning.model_validate(tuning),
        }
    )
