"""Views carry their versions in the registry, and what a champion reads is not changed under it."""

import importlib
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.errors import ChangeError, NotReadyError
from fti.project import Features, Source, View
from fti.projects.flights import project as flights
from fti.stores.features.registration import pending
from fti.stores.features.store import FeatureStore
from fti.versions import syntax
from fti.versions.views import VERSION, model_tags, services_of, view_versions
from tests.registries import empty_registry
from tests.views import with_view

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
MODULE = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float32, String

shop = Entity(name="shop", join_keys=["shop"])


def view(name, column, hours=6):
    return FeatureView(
        name=name,
        entities=[shop],
        schema=[Field(name="shop", dtype=String), Field(name=column, dtype=Float32)],
        source=FileSource(name=name, path=f"shop/features/{name}", timestamp_field="event_timestamp"),
        ttl=timedelta(hours=hours),
    )


sales = view("sales", "amount")
visits = view("visits", "number")
shop_model_v1 = FeatureService(name="shop_model_v1", features=[sales, visits])


def read(start, end):
    return None


def amounts(events):
    return events.select("shop", "event_timestamp", amount="amount")


def numbers(events):
    return events.select("shop", "event_timestamp", number="number")


ROWS = {"sales": amounts, "visits": numbers}


def on_demand(rows):
    return rows
"""
TTL = ('visits = view("visits", "number")', 'visits = view("visits", "number", 12)')
SCHEMA = ('visits = view("visits", "number")', 'visits = view("visits", "count")')
TRANSFORM = ('number="number"', 'number=-events["number"]')
EXTRA = [("sales = ", 'extra = view("extra", "weight")\nsales = '), ("ROWS = {", 'ROWS = {"extra": amounts, ')]
UPSTREAM = ("return None", "return 1")
MEMBERS = ("features=[sales, visits]", "features=[sales]")
ON_DEMAND = ("def on_demand(rows):\n    return rows", "def on_demand(rows):\n    return rows.head()")
RENAMED = [
    ('visits = view("visits", "number")', 'visits_v2 = view("visits_v2", "number")'),
    ('shop_model_v1 = FeatureService(name="shop_model_v1", features=[sales, visits])',
     'shop_model_v2 = FeatureService(name="shop_model_v2", features=[sales, visits_v2])'),
    ('"visits": numbers', '"visits_v2": numbers'),
    TRANSFORM,
]  # fmt: skip


class World:
    """A shop whose Feast module can be changed, a feature store and a model registry."""

    def __init__(self, root):
        self.root = root
        self.models = empty_registry(root / "models")
        self.change()
        self.store = FeatureStore(
            Path(__file__).parents[2] / "feature_repo",
            str(root / "feast"),
            str(root / "lake"),
            f"sqlite:///{root}/feast/registry.db",
            str(root / "feast" / "online.db"),
            served=self.models.served,
        )

    def change(self, *changes, name="shop_repo"):
        text = MODULE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (self.root / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        syntax.module_of.cache_clear()
        importlib.invalidate_caches()
        module = importlib.import_module(name)
        service = "shop_model_v2" if hasattr(module, "shop_model_v2") else "shop_model_v1"
        source = Source(name="events", read=module.read, schema={"shop": pl.String}, key=("shop",))
        features = Features(
            repo=name,
            service=service,
            views=tuple(
                View(name=name, entity=("shop",), inputs=("events",), rows=rows, lookback=timedelta(days=1))
                for name, rows in module.ROWS.items()
            ),
            on_demand=module.on_demand,
            on_demand_names=(),
        )
        self.project = replace(flights, name="shop", sources=(source,), features=features)
        return self.project

    def serve(self, alias="champion"):
        """A model version trained on what is registered now."""
        run = self.models.client.create_run(self.models.experiment("shop")).info.run_id
        if not self.models.client.search_registered_models("name = 'shop'"):
            self.models.client.create_registered_model("shop")
        service = self.project.features.service
        tags = model_tags(service, self.store.versions(service))
        made = self.models.client.create_model_version("shop", "nowhere", run, tags=tags)
        self.models.client.set_registered_model_alias("shop", alias, made.version)

    def registered(self):
        feast = self.store.feast
        return {
            item.name: item.tags.get(VERSION) for item in [*feast.list_feature_views(), *feast.list_feature_services()]
        }


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    made = World(tmp_path)
    made.store.apply(made.project)
    return made


def versions(project):
    return view_versions(project) | {name: found.version for name, found in services_of(project).items()}


def test_views_and_services_are_registered_with_their_versions(world):
    assert world.registered() == versions(world.project)
    assert world.store.versions("shop_model_v1") == versions(world.project)
    assert pending(world.store.feast, world.project) == []
    world.store.apply(world.project)
    assert world.registered() == versions(world.project)


@pytest.mark.parametrize(
    ("change", "name", "kinds"),
    [
        (TTL, "visits", ("ttl",)),
        (SCHEMA, "visits", ("schema",)),
        (TRANSFORM, "visits", ("transform",)),
        (MEMBERS, "shop_model_v1", ("members",)),
        (ON_DEMAND, "shop_model_v1", ("on_demand",)),
    ],
    ids=["ttl", "schema", "transform", "members", "on_demand"],
)
def test_what_a_champion_reads_is_not_changed_in_place(world, change, name, kinds):
    world.serve()
    before = world.registered()
    project = world.change(change, *EXTRA)
    named = {found.name: found.kinds for found in pending(world.store.feast, project)}
    assert named["extra"] == ("new",)
    assert named[name] == kinds
    with pytest.raises(ChangeError, match=rf"'{name}', which shop/1 \(champion\) reads.*accept_changes=\(") as refusal:
        world.store.apply(project)
    assert world.registered() == before
    accepted = tuple(text.strip('",') for text in str(refusal.value).split("accept_changes=(")[1].split(")")[0].split())
    world.store.apply(replace(project, features=replace(project.features, accept_changes=accepted)))
    assert world.registered() == versions(project)
    world.store.apply(project)


def test_a_change_of_a_source_is_a_change_of_every_view(world):
    world.serve()
    found = {change.name: change.kinds for change in pending(world.store.feast, world.change(UPSTREAM))}
    assert found == {"sales": ("upstream",), "visits": ("upstream",)}


def test_join_keys_that_feast_and_the_declared_view_have_differently_are_refused(world):
    before = world.registered()
    project = with_view(world.project, "visits", entity=("shop", "till"))
    with pytest.raises(NotReadyError, match="'visits' has the join keys shop in shop_repo, but the entity shop, till"):
        world.store.apply(project)
    assert world.registered() == before


def test_new_names_go_on_and_the_old_features_stay_servable(world):
    world.serve()
    rows = pl.DataFrame(
        {"shop": ["a"], "event_timestamp": [NOON]}, schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")}
    )
    values = {
        "sales": rows.with_columns(amount=pl.lit(1.0, pl.Float32)),
        "visits": rows.with_columns(number=pl.lit(2.0, pl.Float32)),
    }
    world.store.write_online("shop_model_v1", values)
    before = world.registered()
    project = world.change(*RENAMED)
    found = {change.name: change.kinds for change in pending(world.store.feast, project)}
    assert found == {
        "visits": ("removed",),
        "visits_v2": ("new",),
        "shop_model_v1": ("removed",),
        "shop_model_v2": ("new",),
    }
    world.store.apply(project)
    assert pending(world.store.feast, project) == []
    assert before.items() <= world.registered().items()
    online = world.store.online("shop_model_v1", rows)
    assert online.select("amount", "number", "missing_views").row(0) == (1.0, 2.0, [])
    world.store.apply(world.change())
    assert world.registered()["visits"] == before["visits"]


@pytest.mark.parametrize("alias", [None, "previous"])
def test_what_no_champion_reads_may_change(world, alias):
    if alias:
        world.serve(alias)
    project = world.change(TRANSFORM)
    world.store.apply(project)
    assert world.registered() == versions(project)


def test_going_back_to_what_the_champion_was_trained_on_is_allowed(world):
    world.serve()
    project = world.change(TRANSFORM)
    accepted = (f"visits@{view_versions(project)['visits']}",)
    world.store.apply(replace(project, features=replace(project.features, accept_changes=accepted)))
    world.store.apply(world.change())
    assert world.registered() == versions(world.project)


def test_a_registry_that_was_applied_by_hand_does_not_open_the_way(world):
    world.serve()
    world.store.feast.apply(
        [
            item
            for item in vars(sys.modules["shop_repo"]).values()
            if type(item).__module__.startswith("feast.") and hasattr(item, "name")
        ]
    )
    assert set(world.registered().values()) == {None}
    with pytest.raises(ChangeError, match="'visits', which shop/1"):
        world.store.apply(world.change(TRANSFORM))
    world.store.apply(world.change())
    assert world.registered() == versions(world.project)


def test_projects_leave_each_others_views_alone(world):
    before = world.registered()
    other = replace(world.change(('path=f"shop', 'path=f"depot'), name="depot_repo"), name="depot")
    with pytest.raises(ChangeError, match=r"'sales' \(of project 'shop'\)"):
        world.store.apply(other)
    assert world.registered() == before
    renamed = [(f'"{name}"', f'"depot_{name}"') for name in ("sales", "visits", "shop_model_v1")]
    renamed += [(f'"{name}": ', f'"depot_{name}": ') for name in ("sales", "visits")]
    other = replace(world.change(*renamed, ('path=f"shop', 'path=f"depot'), name="depot_repo"), name="depot")
    world.store.apply(replace(other, features=replace(other.features, service="depot_shop_model_v1")))
    assert before.items() <= world.registered().items()
    assert pending(world.store.feast, world.change()) == []
