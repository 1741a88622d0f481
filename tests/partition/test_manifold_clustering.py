"""What must hold of manifold-clustering whatever the data: identities, invariances, limits."""

import lodim.partition.manifold_clustering as system


def test_the_module_names_its_source():
    assert "2301.01805" in system.__doc__
