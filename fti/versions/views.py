"""Versions of feature views and services: short hashes of what decides a feature's values.

A view's version is made of four parts: its `schema` (features, keys, types, where its rows lie), its `ttl`, the
`transform` (the declaration of the view with the source of its functions and of all they use) and the `upstream`
(schemas and read functions of the raw sources that it reads). A service's is made of its `members` and of the
`on_demand` features. Equal code has equal versions in every process, on every machine, under every hash seed.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fti.errors import NotReadyError
from fti.versions.source_hash import digest, source_hash
from fti.views.windows import rolling_statistics

if TYPE_CHECKING:
    from fti.project import Features, Project
    from fti.views.view import View

VERSION, PARTS, OWNER = "fti_version", "fti_parts", "fti_project"
"""Feast tags: the version, its parts as JSON, the project that registered it."""
VIEW_TAG, SERVICE_TAG, SERVICE_VERSION_TAG = "fti.views.view.", "fti.feature_service", "fti.service_version"
"""MLflow tags of runs and model versions; the first is followed by the view's name."""
SCHEMA, TTL, TRANSFORM, UPSTREAM = "schema", "ttl", "transform", "upstream"
MEMBERS, ON_DEMAND = "members", "on_demand"


@dataclass(frozen=True)
class Version:
    """The version of one feature view or feature service."""

    name: str
    parts: Mapping[str, str]
    """Part -> its hash."""
    details: Mapping[str, str] = field(default_factory=dict, compare=False)
    """What a person reads of it: column or member -> type or features, and the TTL."""

    @property
    def version(self) -> str:
        """All parts in one hash."""
        return digest(*(f"{name}={self.parts[name]}" for name in sorted(self.parts)))

    def tags(self, project: str) -> dict[str, str]:
        """The version as Feast tags."""
        return {VERSION: self.version, PARTS: json.dumps(dict(sorted(self.parts.items()))), OWNER: project}


@dataclass(frozen=True)
class ServedModel:
    """A registered model that an alias points to, and what it reads."""

    model: str
    version: int
    alias: str
    service: str
    views: Mapping[str, str]
    """Feature view -> its version in the training dataset; empty for a model from before versions."""
    service_version: str = ""

    def __str__(self) -> str:
        return f"{self.model}/{self.version} ({self.alias})"


def model_tags(service: str, versions: Mapping[str, str]) -> dict[str, str]:
    """What a model reads, as MLflow tags; `versions` of the service and its views, as `FeatureStore.versions` says."""
    tags = {SERVICE_TAG: service}
    for name, version in versions.items():
        tags[SERVICE_VERSION_TAG if name == service else f"{VIEW_TAG}{name}"] = version
    return tags


def served_model(model: str, version: int, alias: str, tags: Mapping[str, str]) -> ServedModel:
    """What `model_tags` wrote of a model."""
    views = {name.removeprefix(VIEW_TAG): value for name, value in tags.items() if name.startswith(VIEW_TAG)}
    return ServedModel(model, version, alias, tags.get(SERVICE_TAG, ""), views, tags.get(SERVICE_VERSION_TAG, ""))


def view_versions(project: Project) -> dict[str, str]:
    """Feature view -> its version, of every view in the project's Feast module."""
    return {name: found.version for name, found in views_of(project).items()}


def views_of(project: Project) -> dict[str, Version]:
    """Feature view -> its version with the parts. Imports the project's Feast module."""
    import feast

    found = {}
    for view in feast_objects(project, feast.FeatureView):
        declared = project.features.view(view.name)
        found[view.name] = view_version(view, view_hash(declared), upstream_version(project, declared.sources))
    for view in feast_objects(project, feast.OnDemandFeatureView):
        found[view.name] = _on_demand_view(view, upstream_version(project, project.features.sources))
    return found


def view_hash(view: View) -> str:
    """Hash of a declared view: its function, the shared frames it names, its windows, entity, lookback."""
    return source_hash(view.make, *([rolling_statistics] if view.rolling else []))


def services_of(project: Project) -> dict[str, Version]:
    """Feature service -> its version with the parts."""
    import feast

    on_demand = on_demand_version(project)
    services = feast_objects(project, feast.FeatureService)
    return {service.name: service_version(service, on_demand) for service in services}


def own_service(project: Project) -> Any:
    """The `feast.FeatureService` that `Features.service` names; NotReadyError when the Feast module lacks it."""
    import feast

    features = project.features
    known = {service.name: service for service in feast_objects(project, feast.FeatureService)}
    if features.service not in known:
        raise NotReadyError(
            f"Features.service of {project.name} names {features.service!r}, which {features.repo} does not have: it "
            f"has {', '.join(known) or 'none'}. Name one of these, or add a FeatureService of that name."
        )
    return known[features.service]


def require_features(project: Project) -> None:
    """Raise NotReadyError unless the project has its service, has declared its views with the join keys that they
    have in Feast, and reads them from where it writes them."""
    import feast

    own_service(project)
    for view in feast_objects(project, feast.FeatureView):
        entity = project.features.view(view.name).entity
        if set(view.join_keys) != set(entity):
            raise NotReadyError(
                f"The feature view {view.name!r} has the join keys {', '.join(view.join_keys)} in "
                f"{project.features.repo}, but the entity {', '.join(entity)} in Features.views: let them be the same."
            )
        path, made = str(getattr(view.batch_source, "path", "")), f"{project.name}/features/{view.name}"
        if path != made and re.fullmatch(rf"\w+/features/{re.escape(view.name)}", path):
            raise NotReadyError(
                f"The feature view {view.name!r} is read from {path!r}, but {project.name} writes it to {made!r}. "
                f"Correct `path` in {project.features.repo}, or give a project that was renamed its old name back."
            )


def feast_objects(project: Project, *kinds: type) -> list[Any]:
    """Objects of `kinds` in the project's Feast module."""
    try:
        module = importlib.import_module(project.features.repo)
    except ModuleNotFoundError as error:
        raise NotReadyError(f"Features.repo of {project.name}, {project.features.repo!r}: {error}") from error
    return [value for value in vars(module).values() if isinstance(value, kinds)]


def view_version(view: Any, transform: str, upstream: str) -> Version:
    """Version of a `feast.FeatureView`, of the hashes of its declaration and of its sources."""
    columns = {column.name: str(column.dtype) for column in view.schema}
    ttl = str(int(view.ttl.total_seconds()) if view.ttl else 0)
    parts = {
        SCHEMA: digest(*sorted(f"{name}:{kind}" for name, kind in columns.items()), *_keys(view), *_place(view)),
        TTL: digest(ttl),
        TRANSFORM: transform,
        UPSTREAM: upstream,
    }
    return Version(view.name, parts, {**columns, TTL: f"{ttl} s"})


def service_version(service: Any, on_demand: str) -> Version:
    """Version of a `feast.FeatureService`."""
    members = {
        member.name_to_use(): " ".join(feature.name for feature in member.features)
        for member in service.feature_view_projections
    }
    return Version(
        service.name,
        {MEMBERS: digest(*sorted(f"{name}:{features}" for name, features in members.items())), ON_DEMAND: on_demand},
        members,
    )


def upstream_version(project: Project, sources: Collection[str]) -> str:
    """Hash of raw sources: columns, keys and how they are read."""
    return digest(*(source_version(project.source(name)) for name in sorted(sources)))


def source_version(source: Any) -> str:
    """Hash of one raw source."""
    columns = sorted(f"{name}:{kind}" for name, kind in source.schema.items())
    return digest(source.name, *columns, *source.key, source.timestamp or "", source_hash(source.read))


def on_demand_version(project: Project) -> str:
    """Hash of the on-demand features, which no view holds."""
    return digest(source_hash(project.features.on_demand), *project.features.on_demand_names)


def features_version(features: Features) -> str:
    """All declared views in one hash, without importing Feast."""
    return digest(*sorted(map(view_hash, features.views)))


def code_version(project: Project) -> str:
    """Views and sources in one hash: the `code_version` of the asset `features`."""
    return digest(features_version(project.features), upstream_version(project, project.features.sources))


def _on_demand_view(view: Any, upstream: str) -> Version:
    columns = {column.name: str(column.dtype) for column in view.schema}
    schema = digest(*sorted(f"{name}:{kind}" for name, kind in columns.items()))
    transform = source_hash(view.feature_transformation.udf)
    return Version(view.name, {SCHEMA: schema, TTL: "", TRANSFORM: transform, UPSTREAM: upstream}, columns)


def _keys(view: Any) -> list[str]:
    return sorted(view.join_keys)


def _place(view: Any) -> list[str]:
    """Where the rows lie and which columns tell their times."""
    source = view.batch_source
    texts = [str(getattr(source, name, "") or "") for name in ("path", "table", "query")]
    mapping = sorted(f"{name}:{column}" for name, column in (source.field_mapping or {}).items())
    return [*texts, source.timestamp_field or "", source.created_timestamp_column or "", *mapping]
