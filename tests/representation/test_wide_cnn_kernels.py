"""What must hold of wide-cnn-kernels whatever the data: identities, invariances, limits."""

import lodim.representation.wide_cnn_kernels as system


def test_the_module_names_its_source():
    assert "2208.01003" in system.__doc__
