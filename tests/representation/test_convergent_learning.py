"""What must hold of convergent-learning whatever the data: identities, invariances, limits."""

import lodim.representation.convergent_learning as system


def test_the_module_names_its_source():
    assert "1511.07543" in system.__doc__
