"""Measuring the intrinsic dimension of objective landscapes (C. Li et al., 2018, arXiv 1804.08838)."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
