"""pydantic JSON schema -> the structural OpenAPI v3 schema that a CustomResourceDefinition takes.

What differs (Kubernetes, "Structural schema"): no ``$ref``, no ``title``, no ``null`` type, no ``const``;
every node has a type. An unknown keyword is an error here, so that nothing is lost on the way without notice.
"""

from __future__ import annotations

from typing import Any

from .base import CustomResource, JsonObject

__all__ = ["SchemaError", "structural_schema"]

INT32_MAX = 2**31 - 1

# Keywords that mean the same in both worlds, in the order they are written.
_KEPT = (
    "description",
    "type",
    "format",
    "default",
    "enum",
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "required",
    "properties",
    "items",
    "additionalProperties",
)
_DROPPED = frozenset({"title", "$defs"})
_ORDER = {keyword: position for position, keyword in enumerate(_KEPT)}


class SchemaError(ValueError):
    """A model cannot be written as a structural schema; the message names the field."""


def structural_schema(model: type[CustomResource]) -> JsonObject:
    """Return the schema of ``model`` with its ``spec`` and ``status``.

    Raises :class:`SchemaError` naming the field when something has no structural form, or no description.
    """
    raw = model.model_json_schema(by_alias=True)
    definitions = raw.get("$defs", {})
    kind = model.info.kind
    properties: JsonObject = {
        "apiVersion": {"type": "string", "description": "Group and version of the kind."},
        "kind": {"type": "string", "description": "Kind of the object."},
        "metadata": {"type": "object"},
    }
    for name in ("spec", "status"):
        properties[name] = _convert(raw["properties"][name], definitions, f"{kind}.{name}")
        _need_descriptions(properties[name], f"{kind}.{name}")
    schema: JsonObject = {
        "description": _one_line(model.__doc__ or ""),
        "type": "object",
        "properties": properties,
    }
    if "x-kubernetes-validations" in raw:
        schema["x-kubernetes-validations"] = raw["x-kubernetes-validations"]
    return _sorted(schema)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _flatten(node: JsonObject, definitions: JsonObject, path: str) -> JsonObject:
    """Resolve ``$ref``, ``allOf`` of one and ``anyOf`` with null; what stands outside wins.

    CEL rules add up, since both hold.
    """
    node = dict(node)
    inner: JsonObject | None = None
    if "$ref" in node:
        inner = definitions[node.pop("$ref").rsplit("/", 1)[1]]
    elif "anyOf" in node:
        branches = [branch for branch in node.pop("anyOf") if branch.get("type") != "null"]
        if len(branches) != 1:
            raise SchemaError(f"{path}: a union of several types has no structural form")
        inner = branches[0]
    elif "allOf" in node:
        branches = node.pop("allOf")
        if len(branches) != 1:
            raise SchemaError(f"{path}: allOf of several schemas has no structural form")
        inner = branches[0]
    if inner is None:
        return node
    resolved = _flatten(inner, definitions, path)
    merged = resolved | node
    both = resolved.get("x-kubernetes-validations", []) + node.get("x-kubernetes-validations", [])
    if both:
        merged["x-kubernetes-validations"] = both
    return merged


def _convert(node: JsonObject, definitions: JsonObject, path: str) -> JsonObject:
    flat = _flatten(node, definitions, path)
    result: JsonObject = {}
    for keyword, value in flat.items():
        if keyword in _DROPPED or (keyword == "default" and value is None):
            continue
        if keyword == "const":
            result["enum"] = [value]
        elif keyword == "description":
            result[keyword] = _one_line(value)
        elif keyword == "properties":
            result[keyword] = {
                name: _convert(child, definitions, f"{path}.{name}") for name, child in value.items()
            }
        elif keyword in ("items", "additionalProperties"):
            if not isinstance(value, dict):
                raise SchemaError(f"{path}: {keyword} must be a schema")
            result[keyword] = _convert(value, definitions, f"{path}[]")
        elif keyword in _ORDER:
            result[keyword] = value
        else:
            raise SchemaError(f"{path}: keyword {keyword!r} has no structural form")
    if "type" not in result:
        raise SchemaError(f"{path}: no type")
    if result["type"] == "integer":
        bounded = result.get("minimum", -INT32_MAX - 1) >= -INT32_MAX and result.get("maximum", 1 << 60)
        result["format"] = "int32" if bounded and bounded <= INT32_MAX else "int64"
    if result["type"] == "object" and isinstance(result.get("default"), dict):
        # The defaults of the fields fill it in.
        result["default"] = {}
    return _sorted(result)


def _sorted(node: JsonObject) -> JsonObject:
    return dict(sorted(node.items(), key=lambda item: _ORDER[item[0]]))


def _need_descriptions(node: JsonObject, path: str) -> None:
    """Every field is explained, for ``kubectl explain``."""
    if not node.get("description"):
        raise SchemaError(f"{path}: no description; add a docstring below the field")
    children: Any = node.get("properties") or node.get("items", {}).get("properties") or {}
    for name, child in children.items():
        _need_descriptions(child, f"{path}.{name}")
