from .preparation import calibrate as calibrate
from .preparation import convert as convert
from .preparation import prepare as prepare
from .preparation import quant_layers as quant_layers
from .preparation import ready as ready
from .quantized_model import QuantizedModel as QuantizedModel
from .quantized_model import quantize as quantize
