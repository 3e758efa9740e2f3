"""What the chart must keep in step with the rest of the repository."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vpp-operator"


def test_custom_resource_definitions_are_the_generated_ones() -> None:
    generated = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    shipped = {path.name: path.read_text() for path in (CHART / "files" / "crds").glob("*.yaml")}
    assert generated and shipped == generated, "run: make crds"


def test_versions_agree() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def unknown(values: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """Paths of values that the schema does not describe."""
    if "$ref" in schema:
        schema = root["definitions"][schema["$ref"].rpartition("/")[2]]
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    found = []
    for key, value in values.items():
        here = f"{path}.{key}"
        if key not in schema["properties"]:
            found.append(here)
        else:
            found += unknown(value, schema["properties"][key], root, here)
    return found


def test_every_default_is_in_the_schema_and_every_setting_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert unknown(values, schema, schema) == []
    assert schema["properties"].keys() - values.keys() == {"global"}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_yaml(path: Path) -> None:
    documents = [document for document in yaml.safe_load_all(path.read_text()) if document]
    assert documents and all({"apiVersion", "kind", "metadata"} <= document.keys() for document in documents)
