"""Affine grids: their arithmetic, how their ranges are chosen, and layers that compute on them."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
