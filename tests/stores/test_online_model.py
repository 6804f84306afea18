"""Random writes, reads and removals: the online store answers what a dictionary of the newest rows does."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from tests.stores.test_online_store import HOUR, NOON, driver, store_at, view

KINDS = {
    "i": (Int64, lambda draw: Value(int64_val=draw.randint(-9, 9))),
    "n": (Int32, lambda draw: Value(int32_val=draw.randint(0, 9))),
    "f": (Float32, lambda draw: Value(float_val=draw.randint(0, 8) / 4)),
    "d": (Float64, lambda draw: Value(double_val=draw.random())),
    "b": (Bool, lambda draw: Value(bool_val=draw.random() < 0.5)),
    "t": (UnixTimestamp, lambda draw: Value(unix_timestamp_val=draw.randint(0, 10**9))),
    "s": (String, lambda draw: Value(string_val="x" * draw.randint(0, 5))),
}
NEVER = datetime(1, 1, 1, tzinfo=UTC)


def some_views(draw):
    """One to five views of one entity, of a few features each, with and without texts."""
    made = []
    for number in range(draw.randint(1, 5)):
        kinds = draw.choices(draw.choice(["ifdbtn", "ifdbtns"]), k=draw.randint(1, 12))
        features = {f"{kind}{place}": KINDS[kind][0] for place, kind in enumerate(kinds)}
        made.append(view(f"view_{number}", [driver], {"driver": String}, features))
    return made


def keys_of(names):
    return [EntityKey(join_keys=["driver"], entity_values=[Value(string_val=name)]) for name in names]


def some_rows(draw, features, entities):
    """(entity, values, event time, created) of a few rows; values are null or left out now and then."""
    for entity in draw.choices(entities, k=draw.choice([1, 3, 30])):
        kept = [name for name in features if draw.random() < 0.93]
        values = {name: Value() if draw.random() < 0.15 else KINDS[name[0]][1](draw) for name in kept}
        time = NOON + HOUR * draw.randint(0, 5)
        yield entity, values, time, draw.choice([None, time, time + timedelta(hours=1)])


@pytest.mark.parametrize("seed", range(12))
def test_the_store_answers_what_a_dictionary_does(tmp_path, online_path, seed):
    draw = random.Random(seed)
    store, views, model = store_at(tmp_path, online_path), some_views(draw), {}
    online, config = store._get_provider().online_store, store.config
    entities = [f"e{number}" for number in range(draw.choice([2, 5, 40]))]
    for _ in range(25):
        chosen, what = draw.choice(views), draw.random()
        if what < 0.5:
            rows = list(some_rows(draw, [feature.name for feature in chosen.features], entities))
            keys = keys_of(row[0] for row in rows)
            online.online_write_batch(
                config, chosen, [(key, *row[1:]) for key, row in zip(keys, rows, strict=True)], None
            )
            for entity, values, time, created in rows:
                mark = (time, created or NEVER)
                if mark >= model.get((chosen.name, entity), ((NEVER, NEVER), {}))[0]:
                    model[chosen.name, entity] = (mark, values)
        elif what < 0.55:
            online.update(config, [chosen], [], [], [], partial=False)
            model = {place: row for place, row in model.items() if place[0] != chosen.name}
        else:
            names = [feature.name for feature in chosen.features]
            names = draw.sample(names, draw.randint(1, len(names)))
            asked = draw.choices([*entities, "nobody"], k=draw.choice([1, 1, 4, 60]))
            found = online.online_read(config, chosen, keys_of(asked), names)
            for entity, (time, values) in zip(asked, found, strict=True):
                mark, row = model.get((chosen.name, entity), ((None, None), None))
                assert time == mark[0]
                assert values == (None if row is None else {name: row.get(name, Value()) for name in names})
