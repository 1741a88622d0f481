"""What must hold of mode-interpolation whatever the data: identities, invariances, limits."""

import lodim.generative.mode_interpolation as system


def test_the_module_names_its_source():
    assert "2406.09358" in system.__doc__
