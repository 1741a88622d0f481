"""What must hold of supervised-dictionary whatever the data: identities, invariances, limits."""

import lodim.partition.supervised_dictionary as system


def test_the_module_names_its_source():
    assert "2206.06774" in system.__doc__
