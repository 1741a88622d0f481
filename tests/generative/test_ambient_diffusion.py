"""What must hold of ambient-diffusion whatever the data: identities, invariances, limits."""

import lodim.generative.ambient_diffusion as system


def test_the_module_names_its_source():
    assert "2411.02780" in system.__doc__
