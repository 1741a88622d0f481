"""What must hold of novel-class-discovery whatever the data: identities, invariances, limits."""

import lodim.partition.novel_class_discovery as system


def test_the_module_names_its_source():
    assert "2311.05440" in system.__doc__
