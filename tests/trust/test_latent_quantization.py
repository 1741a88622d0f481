"""What must hold of latent-quantization whatever the data: identities, invariances, limits."""

import lodim.trust.latent_quantization as system


def test_the_module_names_its_source():
    assert "1903.09940" in system.__doc__
