"""What must hold of black-box-surrogates whatever the data: identities, invariances, limits."""

import lodim.trust.black_box_surrogates as system


def test_the_module_names_its_source():
    assert "2208.13405" in system.__doc__
