"""Every kind of value at every station but those of Feast, in order, turned around and one by one."""

import pytest

from tests.values.kinds import KINDS, Kind
from tests.values.stations import SLOW, STATIONS, Station
from tests.values.table import require_equal_or_refused


@pytest.mark.parametrize("station", [one for one in STATIONS if one.name not in SLOW], ids=lambda one: one.name)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_value_comes_out_equal_or_is_refused_by_name(station: Station, kind: Kind) -> None:
    require_equal_or_refused(station, kind)
