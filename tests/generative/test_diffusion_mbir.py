"""What must hold of diffusion-mbir whatever the data: identities, invariances, limits."""

import lodim.generative.diffusion_mbir as system


def test_the_module_names_its_source():
    assert "2211.10655" in system.__doc__
