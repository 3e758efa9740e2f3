"""Write the CustomResourceDefinitions of this group from the models: ``python -m vpp_operator.api.crds``."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

import yaml

from .base import GROUP, VERSION, CustomResource, JsonObject
from .dataplane import Dataplane
from .gtpu_endpoint import GtpuEndpoint
from .gtpu_tunnel import GtpuTunnel, GtpuTunnelSet
from .schema import structural_schema
from .tuning import DataplaneTuning

__all__ = ["KINDS", "definition", "file_name", "main", "render"]

KINDS: tuple[type[CustomResource], ...] = (
    Dataplane,
    DataplaneTuning,
    GtpuEndpoint,
    GtpuTunnel,
    GtpuTunnelSet,
)
"""Every kind of the group."""

HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Generated from operator/vpp_operator/api by `make crds`. Do not edit.
"""


class _Dumper(yaml.SafeDumper):
    """Block style throughout, no aliases: the same input always gives the same text."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def definition(model: type[CustomResource]) -> JsonObject:
    """Return the CustomResourceDefinition of a kind as a JSON object."""
    info = model.info
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{info.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": info.scope,
            "names": {
                "kind": info.kind,
                "listKind": f"{info.kind}List",
                "plural": info.plural,
                "singular": info.singular,
                "shortNames": list(info.short_names),
                "categories": list(info.categories),
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.to_dict() for column in info.columns],
                    "schema": {"openAPIV3Schema": structural_schema(model)},
                }
            ],
        },
    }


def file_name(model: type[CustomResource]) -> str:
    """Return the name of a kind's file in the directory."""
    return f"{GROUP}_{model.info.plural}.yaml"


def render() -> dict[str, str]:
    """Return the text of every file, by name."""
    return {
        file_name(model): HEADER
        + yaml.dump(definition(model), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
        for model in KINDS
    }


def _differences(directory: Path, wanted: dict[str, str]) -> list[str]:
    """Return unified diffs between the files on disk and ``wanted``, files too many included."""
    present = {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.yaml"))}
    lines: list[str] = []
    for name in sorted(present.keys() | wanted.keys()):
        lines += difflib.unified_diff(
            present.get(name, "").splitlines(keepends=True),
            wanted.get(name, "").splitlines(keepends=True),
            fromfile=f"{directory.name}/{name}",
            tofile="generated",
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with ``--check`` print what differs and return 1."""
    parser = argparse.ArgumentParser(prog="vpp_operator.api.crds", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file differs")
    parser.add_argument("directory", nargs="?", default="crds", type=Path, help="where the files are")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    wanted = render()
    if options.check:
        lines = _differences(directory, wanted)
        sys.stdout.writelines(lines)
        if lines:
            print(f"{directory} differs from the models: run `make crds` and commit", file=sys.stderr)
        return 1 if lines else 0
    directory.mkdir(parents=True, exist_ok=True)
    for path in directory.glob("*.yaml"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
