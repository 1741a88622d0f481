"""Linear algebra that several areas need.

Walsh-Hadamard transform, trace estimates, products in full float32; Krylov solvers with one record, moments of streams,
roots and factors of semi-definite matrices, Sinkhorn's scaling, leading singular vectors.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
