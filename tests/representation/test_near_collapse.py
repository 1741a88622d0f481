"""What must hold of near-collapse whatever the data: identities, invariances, limits."""

import lodim.representation.near_collapse as system


def test_the_module_names_its_source():
    assert "2210.16658" in system.__doc__
