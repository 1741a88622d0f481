"""What must hold of invariance-certificates whatever the data: identities, invariances, limits."""

import lodim.trust.invariance_certificates as system


def test_the_module_names_its_source():
    assert "2205.15196" in system.__doc__
