"""What must hold of retrieval-diffusion whatever the data: identities, invariances, limits."""

import lodim.generative.retrieval_diffusion as system


def test_the_module_names_its_source():
    assert "2204.11824" in system.__doc__
