"""Bringing a project's Feast objects to the registry, with their versions, unless that would change a served model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fti.errors import ChangeError, NotReadyError
from fti.project import Project
from fti.versions.changes import Change, changes, explain, refused
from fti.versions.views import (
    OWNER,
    PARTS,
    VERSION,
    ServedModel,
    Version,
    feast_objects,
    require_features,
    services_of,
    view_version,
    views_of,
)

if TYPE_CHECKING:
    import feast

RETIRED = "fti_retired"
"""Tag of what the project's code no longer has; it stays registered for the models that read it."""
Served = Callable[[], Sequence[ServedModel]]
"""Asks the model registry for the models that serve; asked only when something deployed has changed."""


def register(store: feast.FeatureStore, project: Project, served: Served) -> None:
    """Register the project's entities, views and services, tagged with their versions.

    All or nothing: ChangeError, and nothing is written, when a view or service that a champion reads was changed in
    place. What the code no longer has, and what other projects registered, stays.
    """
    require_features(project)
    found = pending(store, project)
    coming = [change for change in found if change.code]
    _refuse_foreign(store, project, [change for change in coming if change.in_place])
    if coming and (refusals := refused(coming, read_by(store, served()), project.features.accept_changes)):
        raise ChangeError(explain(refusals))
    store.apply([*tagged(store, project), *_retired(store, {change.name for change in found if not change.code})])


def registered_versions(store: feast.FeatureStore, service: str) -> dict[str, str]:
    """The versions that a service and its views are registered with, by name; NotReadyError without the service."""
    from feast.errors import FeatureServiceNotFoundException

    try:
        found = store.get_feature_service(service)
    except FeatureServiceNotFoundException:
        raise NotReadyError(f"feature service {service!r} is not registered: apply its project first") from None
    members = {member.name for member in found.feature_view_projections}
    registered = [found, *(view for view in _views(store) if view.name in members)]
    return {item.name: item.tags[VERSION] for item in registered if VERSION in item.tags}


def services(project: Project) -> list[str]:
    """Names of the feature services in the project's Feast module, the project's own first."""
    import feast

    own = project.features.service
    return [own, *(found.name for found in feast_objects(project, feast.FeatureService) if found.name != own)]


def pending(store: feast.FeatureStore, project: Project) -> list[Change]:
    """What the code of `project` has differently from the registry."""
    views, services = views_of(project), services_of(project)
    return [
        *changes("view", views, deployed(store, project, views, "views")),
        *changes("service", services, deployed(store, project, services, "services")),
    ]


def deployed(store: feast.FeatureStore, project: Project, code: Any, what: str) -> dict[str, Version]:
    """Registered views or services of the project, or of the names that its code has, with their versions.

    One without a version (from `feast apply` by hand) is left out: what it was made by is not known.
    """
    listed = _views(store) if what == "views" else store.list_feature_services()
    own = [item for item in listed if item.name in code or _is_current(item, project)]
    return {item.name: _deployed(item) for item in own if VERSION in item.tags}


def tagged(store: feast.FeatureStore, project: Project) -> list[Any]:
    """Copies of the project's Feast objects, views and services with the tags of their versions."""
    import feast

    views, services = views_of(project), services_of(project)
    kinds = (feast.Entity, feast.FeatureView, feast.FeatureService, feast.OnDemandFeatureView)
    objects: list[Any] = deepcopy(feast_objects(project, *kinds))  # Feast writes into the objects it is given
    owners = {item.name: item.tags.get(OWNER) for item in [*_views(store), *store.list_feature_services()]}
    for item in objects:
        found = services.get(item.name) if isinstance(item, feast.FeatureService) else views.get(item.name)
        if found is not None and not isinstance(item, feast.Entity):
            item.tags = {**item.tags, **found.tags(owners.get(item.name) or project.name)}
    return objects


def read_by(store: feast.FeatureStore, models: Sequence[ServedModel]) -> list[ServedModel]:
    """`models`, those from before versions with the views that their service has in the registry."""
    services = {service.name: service for service in store.list_feature_services()}
    answer = []
    for model in models:
        if not model.views and model.service in services:
            members = services[model.service].feature_view_projections
            model = replace(model, views={member.name: "" for member in members})
        answer.append(model)
    return answer


def _is_current(item: Any, project: Project) -> bool:
    return item.tags.get(OWNER) == project.name and RETIRED not in item.tags


def _retired(store: feast.FeatureStore, names: set[str]) -> list[Any]:
    """The registered objects called `names`, marked as no longer in the code."""
    gone = [item for item in [*_views(store), *store.list_feature_services()] if item.name in names]
    for item in gone:
        item.tags = {**item.tags, RETIRED: "true"}
    return gone


def _deployed(item: Any) -> Version:
    """The version that a registered object carries."""
    import feast

    if isinstance(item, feast.FeatureService):
        details = {
            member.name_to_use(): " ".join(feature.name for feature in member.features)
            for member in item.feature_view_projections
        }
    else:
        details = dict(view_version(item, "", "").details) if isinstance(item, feast.FeatureView) else {}
    return Version(item.name, json.loads(item.tags[PARTS]), details)


def _views(store: feast.FeatureStore) -> list[Any]:
    return [*store.list_feature_views(), *store.list_on_demand_feature_views()]


def _refuse_foreign(store: feast.FeatureStore, project: Project, found: Sequence[Change]) -> None:
    """A project may share another's views as they are; it may not change them."""
    owners = {item.name: item.tags.get(OWNER) for item in [*_views(store), *store.list_feature_services()]}
    foreign = {change.name: owners[change.name] for change in found if owners.get(change.name) != project.name}
    if foreign:
        listed = ", ".join(f"{name!r} (of project {owner!r})" for name, owner in foreign.items())
        raise ChangeError(
            f"project {project.name!r} has other definitions of {listed}, which another project registered. "
            "Nothing was registered. Give them names of their own."
        )
