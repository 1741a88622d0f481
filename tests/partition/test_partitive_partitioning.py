"""What must hold of partitive-partitioning whatever the data: identities, invariances, limits."""

import lodim.partition.partitive_partitioning as system


def test_the_module_names_its_source():
    assert "2003.04372" in system.__doc__
