from .calibration import calibrate as calibrate
from .conversion import convert as convert
from .post_training import quantize as quantize
from .preparation import prepare as prepare
from .preparation import quant_layers as quant_layers
from .preparation import ready as ready
from .quantized_model import QuantizedModel as QuantizedModel
