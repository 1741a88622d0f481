"""What must hold of pretraining-advantage whatever the data: identities, invariances, limits."""

import lodim.representation.pretraining_advantage as system


def test_the_module_names_its_source():
    assert "2303.01566" in system.__doc__
