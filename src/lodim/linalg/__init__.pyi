from .hadamard import fwht as fwht
from .precision import full_precision as full_precision
