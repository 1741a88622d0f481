"""What must hold of neural-collapse whatever the data: identities, invariances, limits."""

import lodim.representation.neural_collapse as system


def test_the_module_names_its_source():
    assert "2301.00437" in system.__doc__
