"""The measurement of costs: what it counts and says, not how fast anything is."""

import math

import numpy as np
import pytest

from lodim.shapes.simplex_encoding import EncodingCosts, encoding_costs


def test_a_measurement_by_dimension():
    found = encoding_costs((2, 9), n_points=20, n_repeats=2)
    assert math.isnan(found.seconds["grid"][1])
    assert all(times[0] > 0 for times in found.seconds.values())
    assert found.look_ups("grid").tolist() == [4, 512]
    assert found.look_ups("simplex").tolist() == [3, 10]
    assert math.isnan(found.growth("grid"))
    back = EncodingCosts.from_json(found.to_json())
    assert back == found
    frame = found.to_frame()
    assert len(frame) == 6
    assert (frame[frame.kind == "grid"].ratio_to_grid.dropna() == 1).all()
    assert found.plot().get_xlabel() == "dimension"


def test_growth_of_exact_powers():
    dims, seconds = (2, 3, 4), {"grid": 2.0 ** np.arange(2, 5), "simplex": np.full(3, 1.5)}
    costs = EncodingCosts(dims, seconds, 1, 1, 16, 1, 1)
    assert costs.growth("grid") == pytest.approx(2)
    assert costs.growth("simplex") == pytest.approx(1)
    assert "grid 2.00 times (look-ups 2^d)" in str(costs)
    with pytest.raises(ValueError, match="at least one"):
        encoding_costs(())
