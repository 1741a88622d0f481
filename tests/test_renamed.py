"""Old module names: the same module, under a warning that says where it is now."""

import importlib
import pickle
import sys

import pytest

from lodim import _renamed


def _forget(old):
    for name in [name for name in sys.modules if name == old or name.startswith(old + ".")]:
        del sys.modules[name]


@pytest.mark.parametrize("old", _renamed.MOVED)
def test_old_name_is_the_module_itself(old):
    _forget(old)
    with pytest.warns(DeprecationWarning, match=f"{old} is now"):
        found = importlib.import_module(old)
    new = _renamed.new_name(old)
    assert found is importlib.import_module(new)
    assert found.__spec__.name == found.__name__ == new


def test_submodule_of_a_moved_package_is_not_loaded_twice():
    _forget("lodim.geometry.dimension")
    with pytest.warns(DeprecationWarning, match="is now"):
        found = importlib.import_module("lodim.geometry.dimension.methods")
    assert found is importlib.import_module("lodim.dimension.methods")


def test_old_pickle_loads():
    from lodim.geometry import LabelSharpness

    text = pickle.dumps(LabelSharpness(), protocol=0)
    old = text.replace(
        b"lodim.geometry.dataset_properties.label_sharpness", b"lodim.geometry.label_sharpness"
    )
    assert old != text
    _forget("lodim.geometry.label_sharpness")
    with pytest.warns(DeprecationWarning, match="is now"):
        assert isinstance(pickle.loads(old), LabelSharpness)


def test_unknown_name_stays_unknown():
    assert _renamed.new_name("lodim.geometry.subspace") is None
    with pytest.raises(ModuleNotFoundError, match=r"lodim\.geometry\.kde\.nothing"):
        importlib.import_module("lodim.geometry.kde.nothing")
