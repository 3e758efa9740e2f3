"""Base classes of the custom resources and what their schemas carry beyond types."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "AlsoRules",
    "Cidr",
    "Column",
    "CustomResource",
    "JsonObject",
    "KubeModel",
    "ObjectMeta",
    "ResourceInfo",
    "Rule",
    "list_map",
    "list_set",
    "rules",
]

GROUP = "vpp-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

JsonObject = dict[str, Any]
"""An object in JSON form."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule (``x-kubernetes-validations``) that the API server evaluates on ``self``."""

    rule: str
    message: str

    def to_dict(self) -> JsonObject:
        """Return the entry as it stands in the schema."""
        return {"rule": self.rule, "message": self.message}


def rules(*entries: Rule) -> JsonObject:
    """Schema extra: the CEL rules of a model or field."""
    return {"x-kubernetes-validations": [entry.to_dict() for entry in entries]}


class AlsoRules:
    """Annotation: CEL rules that hold beside those of the type it stands on (``rules`` replaces them)."""

    def __init__(self, *entries: Rule) -> None:
        self._entries = [entry.to_dict() for entry in entries]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonObject:
        """Return the schema of the type with the rules appended."""
        schema = dict(handler(core))
        key = "x-kubernetes-validations"
        schema[key] = [*schema.get(key, []), *self._entries]
        return schema


def list_map(*keys: str) -> JsonObject:
    """Schema extra: a list whose entries are identified by ``keys``; the API server refuses duplicates."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def list_set() -> JsonObject:
    """Schema extra: a list of scalars without duplicates."""
    return {"x-kubernetes-list-type": "set"}


class KubeModel(BaseModel):
    """A part of a custom resource: camelCase in JSON, immutable, unknown fields ignored.

    The API server prunes what the schema does not know; a field of a newer version is no error here.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> JsonObject:
        """Return the JSON form that the API server takes: camelCase, fields without a value left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _canonical_prefix(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError as error:
        raise ValueError(f"{error}; write the network's own address, as in 10.0.0.0/24") from None
    if str(network) != text:
        raise ValueError(f"{text!r} is not in its canonical form; write {network}")
    return text


Cidr = Annotated[
    str,
    AfterValidator(_canonical_prefix),
    Field(
        min_length=4,
        max_length=43,
        json_schema_extra=rules(
            Rule(
                "isCIDR(self) && cidr(self).masked() == cidr(self) && string(cidr(self)) == self",
                "must be an IPv4 or IPv6 prefix in canonical form with no host bits set, as in 10.0.0.0/24",
            )
        ),
    ),
]
"""A prefix in canonical form with no host bits set, as in ``10.0.0.0/24`` or ``fd00::/64``."""


class ObjectMeta(KubeModel):
    """The part of an object's metadata that is used here (metav1.ObjectMeta)."""

    name: str
    """Name of the object."""

    namespace: str | None = None
    """Namespace; absent for cluster-scoped kinds."""

    uid: str | None = None
    """Identity of the object over its life, given by the API server."""

    generation: int | None = None
    """Counts the changes of the spec, given by the API server."""

    resource_version: str | None = None
    """Version of the stored object, given by the API server."""

    creation_timestamp: str | None = None
    """Time of creation in RFC 3339 (UTC, whole seconds), given by the API server."""

    labels: dict[str, str] = {}
    """Labels."""

    owner_references: tuple[dict[str, Any], ...] = ()
    """Owners; the object goes when they are gone."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ``kubectl get``. Priority 0 is always shown, above that only with ``-o wide``."""

    name: str
    type: str
    json_path: str
    description: str
    priority: int = 0

    def to_dict(self) -> JsonObject:
        """Return the additionalPrinterColumns entry."""
        entry: JsonObject = {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.json_path,
            "description": self.description,
        }
        if self.priority:
            entry["priority"] = self.priority
        return entry


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """What a CustomResourceDefinition says about a kind beside its schema."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    categories: tuple[str, ...]
    columns: tuple[Column, ...]
    scope: str = "Cluster"


class CustomResource(KubeModel):
    """A whole object of one of the kinds of this group. Subclasses add ``spec`` and ``status``."""

    info: ClassVar[ResourceInfo]

    api_version: str = API_VERSION
    """Group and version of the kind."""

    kind: str
    """Kind of the object."""

    metadata: ObjectMeta
    """Standard object metadata."""
