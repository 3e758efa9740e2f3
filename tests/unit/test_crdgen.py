"""The generated definitions: up to date, structural, and every field explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import yaml
from pydantic import Field, ValidationError

from vpp_operator.api import crds
from vpp_operator.api.base import Cidr, Column, CustomResource, KubeModel, ResourceInfo, Rule, list_map, rules
from vpp_operator.api.dataplane import DataplaneSpec
from vpp_operator.api.schema import SchemaError, structural_schema

DIRECTORY = Path(__file__).parents[2] / "crds"


def test_committed_files_are_what_the_models_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert crds.main(["--check", str(DIRECTORY)]) == 0, capsys.readouterr().out


def test_check_shows_drift_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crds.main([str(tmp_path)]) == 0
    assert crds.main(["--check", str(tmp_path)]) == 0
    path = tmp_path / "vpp-operator.dev_dataplanes.yaml"
    text = path.read_text().replace("scope: Cluster", "scope: Namespaced")
    path.write_text(text)
    (tmp_path / "left-over.yaml").write_text("a: b\n")
    capsys.readouterr()
    assert crds.main(["--check", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "-  scope: Namespaced" in shown.out and "+  scope: Cluster" in shown.out
    assert "-a: b" in shown.out
    assert "make crds" in shown.err
    assert path.read_text() == text
    assert crds.main([str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(crds.render())


def nodes(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield from nodes(schema[keyword], f"{path}[]")


@pytest.mark.parametrize("text", crds.render().values(), ids=crds.render())
def test_definition_is_structural_and_explained(text: str) -> None:
    definition = yaml.safe_load(text)
    spec = definition["spec"]
    assert definition["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    (version,) = spec["versions"]
    assert version["subresources"] == {"status": {}}
    assert version["served"] and version["storage"]
    root = version["schema"]["openAPIV3Schema"]
    for path, node in nodes(root, ""):
        assert "type" in node, path
        assert not node.keys() & {"$ref", "title", "anyOf", "allOf", "oneOf", "const", "nullable"}, path
        if node["type"] == "integer":
            assert node["format"] in ("int32", "int64"), path
        if node["type"] == "array":
            # What merges, what is atomic and how long it may be is said of every list.
            assert "x-kubernetes-list-type" in node or path.endswith("matchExpressions"), path
            assert "maxItems" in node, path
        for rule in node.get("x-kubernetes-validations", []):
            assert rule["rule"] and rule["message"], path
    for name in ("spec", "status"):
        for path, node in nodes(root["properties"][name], name):
            assert node.get("description") or path.endswith("[]"), path


def test_columns_point_at_fields_that_exist() -> None:
    for model in crds.KINDS:
        known = {path for path, _ in nodes(structural_schema(model), "")}
        for column in model.info.columns:
            path = column.json_path.split("[")[0]
            assert path in known or path == ".metadata.creationTimestamp", column


INFO = ResourceInfo("Thing", "things", "thing", (), (), (Column("Age", "date", ".a", "b"),))


class Leaf(KubeModel):
    """A leaf."""

    name: str
    """Its name."""


class Spec(KubeModel):
    """A spec."""

    leaves: Annotated[tuple[Leaf, ...], Field(max_length=2, json_schema_extra=list_map("name"))] = ()
    """Leaves."""

    small: int = Field(default=1, ge=0, le=10)
    """Small."""

    large: int | None = Field(default=None, ge=0)
    """Large."""

    choice: Literal["a"] | None = None
    """A choice of one."""

    leaf: Leaf | None = Field(default=None, json_schema_extra=rules(Rule("self.name != ''", "needs a name")))
    """One leaf,
    in two lines."""

    network: Cidr | None = None
    """A prefix."""


class Thing(CustomResource):
    """A thing."""

    info: ClassVar[ResourceInfo] = INFO
    kind: str = "Thing"
    spec: Spec = Spec()
    """The spec."""
    status: Leaf | None = None
    """The status."""


def test_schema_of_a_small_model() -> None:
    spec = structural_schema(Thing)["properties"]["spec"]
    leaf = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"description": "Its name.", "type": "string"}},
    }
    network = spec["properties"].pop("network")
    assert network["maxLength"] == 43 and network["x-kubernetes-validations"]
    assert spec == {
        "description": "The spec.",
        "type": "object",
        "default": {},
        "properties": {
            "leaves": {
                "description": "Leaves.",
                "type": "array",
                "default": [],
                "maxItems": 2,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"description": "A leaf.", **leaf},
            },
            "small": {
                "description": "Small.",
                "type": "integer",
                "format": "int32",
                "default": 1,
                "minimum": 0,
                "maximum": 10,
            },
            "large": {"description": "Large.", "type": "integer", "format": "int64", "minimum": 0},
            "choice": {"description": "A choice of one.", "type": "string", "enum": ["a"]},
            "leaf": {
                "description": "One leaf, in two lines.",
                **leaf,
                "x-kubernetes-validations": [{"rule": "self.name != ''", "message": "needs a name"}],
            },
        },
    }


class Unexplained(Thing):
    """No docstring below a field."""

    class Inner(KubeModel):
        """Inner."""

        bare: int = 0

    spec: Inner = Inner()  # type: ignore[assignment]
    """The spec."""


class Union(Thing):
    """Two types in one."""

    class Inner(KubeModel):
        """Inner."""

        either: int | str = 0
        """Either."""

    spec: Inner = Inner()  # type: ignore[assignment]
    """The spec."""


class Exclusive(Thing):
    """A keyword that means something else in OpenAPI v3."""

    class Inner(KubeModel):
        """Inner."""

        above: int = Field(default=1, gt=0)
        """Above."""

    spec: Inner = Inner()  # type: ignore[assignment]
    """The spec."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Unexplained, r"Thing\.spec\.bare: no description"),
        (Union, r"Thing\.spec\.either: a union"),
        (Exclusive, r"Thing\.spec\.above: keyword 'exclusiveMinimum'"),
    ],
)
def test_what_cannot_be_written_is_an_error_that_names_the_field(
    model: type[CustomResource], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        structural_schema(model)


@pytest.mark.parametrize(
    ("prefix", "remedy"),
    [
        ("10.0.0.1/24", "host bits"),
        ("10.0.0.0", "10.0.0.0/32"),
        ("fd00:0::/64", "write fd00::/64"),
        ("x", "x"),
    ],
)
def test_models_refuse_prefixes_as_the_api_server_does(prefix: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        DataplaneSpec.model_validate({"podCIDRs": [prefix]})
