from .model import Argus3D as Argus3D
from .prior import ShapeGPT as ShapeGPT
from .shape_set import ShapeSet as ShapeSet
from .shape_set import find_shapes as find_shapes
from .shape_set import shape_set as shape_set
from .tokenizer import ShapeTokenizer as ShapeTokenizer
