"""What must hold of transductive-few-shot whatever the data: identities, invariances, limits."""

import lodim.partition.transductive_few_shot as system


def test_the_module_names_its_source():
    assert "2106.09516" in system.__doc__
