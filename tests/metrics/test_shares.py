"""Wilson's interval: scipy's, in arrays, and its ends."""

import numpy as np
import pytest
from scipy.stats import binomtest

from lodim.metrics import wilson_interval


def test_it_is_scipys_for_each_of_many_shares():
    k, n = np.array([0, 3, 8, 40]), np.array([8, 8, 8, 100])
    low, high = wilson_interval(k, n, ci=0.9)
    for i in range(len(k)):
        theirs = binomtest(k[i], n[i]).proportion_ci(0.9, method="wilson")
        assert (low[i], high[i]) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
        assert wilson_interval(k[i], n[i], ci=0.9) == (low[i], high[i])
    assert (low[0], high[2]) == (0, 1)
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(("k", "n", "ci"), [(3, 2, 0.9), (-1, 2, 0.9), (1, 2, 1.0), (np.nan, 2, 0.9)])
def test_what_is_no_count_is_refused(k, n, ci):
    with pytest.raises(ValueError, match=r"successes|ci"):
        wilson_interval(k, n, ci=ci)
