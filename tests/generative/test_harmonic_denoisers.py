"""What must hold of harmonic-denoisers whatever the data: identities, invariances, limits."""

import lodim.generative.harmonic_denoisers as system


def test_the_module_names_its_source():
    assert "2310.02557" in system.__doc__
