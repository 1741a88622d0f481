"""What must hold of probability-estimation whatever the data: identities, invariances, limits."""

import lodim.trust.probability_estimation as system


def test_the_module_names_its_source():
    assert "2111.10734" in system.__doc__
