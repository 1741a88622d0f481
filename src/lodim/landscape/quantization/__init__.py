"""Models on fewer bits: grids, codebooks, calibration, quantisation after and during training (arXiv 2103.13630).

:func:`quantize` does it in one call; the steps are :func:`prepare`, :func:`calibrate` and :func:`convert`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
