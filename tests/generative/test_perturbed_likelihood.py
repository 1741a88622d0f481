"""What must hold of perturbed-likelihood whatever the data: identities, invariances, limits."""

import lodim.generative.perturbed_likelihood as system


def test_the_module_names_its_source():
    assert "2105.04046" in system.__doc__
