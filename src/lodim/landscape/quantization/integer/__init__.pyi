from .execution import IntegerLayer as IntegerLayer
from .execution import IntegerModel as IntegerModel
from .execution import to_integer as to_integer
