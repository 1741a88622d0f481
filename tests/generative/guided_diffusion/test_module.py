"""What must hold of guided-diffusion whatever the data: identities, invariances, limits."""

import lodim.generative.guided_diffusion as system


def test_the_module_names_its_source():
    assert "2404.07771" in system.__doc__
