"""Every kind of value at every station, one by one and all at once, in order and turned around: equal, or refused."""

import pytest

from tests.values.kinds import KINDS, Kind
from tests.values.stations import REFUSALS, STATIONS, Station
from tests.values.table import REFUSED


@pytest.mark.parametrize("station", STATIONS, ids=lambda station: station.name)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_value_comes_out_equal_or_is_refused_by_name(station: Station, kind: Kind) -> None:
    turned = kind.series(kind.values[::-1])
    for values, many in ((kind.series(), True), (turned, False), (turned, True), (kind.series(), False)):
        if station.name in REFUSED and REFUSED[station.name].kinds(kind):
            with pytest.raises(REFUSALS, match=r"value|the body is not JSON"):
                station.carry(kind, values, many)
        else:
            found, right = station.carry(kind, values, many)
            assert found == right
