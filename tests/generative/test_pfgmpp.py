"""What must hold of pfgmpp whatever the data: identities, invariances, limits."""

import lodim.generative.pfgmpp as system


def test_the_module_names_its_source():
    assert "2302.04265" in system.__doc__
