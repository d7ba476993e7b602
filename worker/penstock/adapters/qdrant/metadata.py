"""What a collection says of itself, in its metadata."""

from collections.abc import Mapping
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.shape import FULL, TERMS, VECTOR, Shape
from penstock.adapters.stems import PLAIN, STEMMED, stemmed
from penstock.core.errors import Misconfigured
from penstock.core.identity import CollectionState, ModelIdentity, Origin, Recipe
from penstock.core.terms import Weighting

IDENTITY = "penstock_model"
ORIGIN = "penstock_origin"
BIRTH = "penstock_birth"
WEIGHTING = "penstock_terms"
RECIPE = "penstock_recipe"
MEMBER = "penstock_member"


def resolve(service: Any, name: str) -> str | None:
    """The collection that a name leads to: by an alias, or as its own; None where there is none."""
    for alias in service.ListAliases(grpc.ListAliasesRequest()).aliases:
        if alias.alias_name == name:
            return str(alias.collection_name)
    exists = service.CollectionExists(grpc.CollectionExistsRequest(collection_name=name)).result.exists
    return name if exists else None


def describe(service: Any, actual: str) -> tuple[dict[str, Any], Shape]:
    """The collection's metadata, and what its vectors look like; raises Misconfigured for terms of a later version."""
    config = service.Get(grpc.GetCollectionInfoRequest(collection_name=actual)).result.config
    sizes = {name: int(vector.size) for name, vector in config.params.vectors_config.params_map.map.items()}
    metadata = convert.payload_of(config.metadata)
    terms = metadata.get(WEIGHTING) if TERMS in config.params.sparse_vectors_config.map else None
    if terms is not None and terms["version"] not in (PLAIN, STEMMED):
        raise Misconfigured(f"collection {actual!r} has terms of version {terms['version']}: use a later Penstock")
    weighting = stemmed(Weighting(int(terms["average"])), terms.get("language") or "") if terms is not None else None
    return metadata, Shape(sizes.get(VECTOR, 0), sizes.get(FULL, 0), weighting)


def state_of(actual: str, metadata: Mapping[str, Any]) -> CollectionState:
    """What a collection's metadata says of it."""
    model, origin, recipe = metadata.get(IDENTITY), metadata.get(ORIGIN), metadata.get(RECIPE)
    return CollectionState(
        actual,
        metadata.get(BIRTH) or "",
        ModelIdentity(**model).digest if model else "",
        Origin(**origin) if origin else None,
        Recipe(int(recipe["number"]), recipe["fingerprint"]) if recipe else None,
    )


def remember(service: Any, collection: str, values: Mapping[str, Any]) -> None:
    """Durable on return; what else the metadata holds stays."""
    service.Update(grpc.UpdateCollection(collection_name=collection, metadata=convert.to_payload(values)))
