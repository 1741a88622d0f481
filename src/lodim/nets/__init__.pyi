from .dense import fc as fc
from .dense import linear as linear
from .dense import mlp as mlp
from .flat import FlatSpec as FlatSpec
from .flat import flat_spec as flat_spec
from .lenet import LocallyConnected2d as LocallyConnected2d
from .lenet import lenet as lenet
