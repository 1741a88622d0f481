from .hadamard import fwht as fwht
from .precision import full_precision as full_precision
from .trace import TraceEstimate as TraceEstimate
from .trace import hutchinson_trace as hutchinson_trace
