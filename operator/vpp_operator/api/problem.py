"""Owners and problems: which object a record comes from, and what is wrong with an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .conditions import Reason

__all__ = ["Owner", "Problem"]


class Owner(NamedTuple):
    """The object that a record comes from. ``str()`` gives ``Kind/namespace/name``."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something of an object that is not served, or not as asked, and what to do about it.

    ``message`` names the field and the remedy. ``generation`` is the object's when it was seen (0: none).
    """

    kind: str
    namespace: str
    name: str
    reason: Reason
    message: str
    generation: int = 0
