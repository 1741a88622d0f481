"""Intrinsic dimension of a data set: how many degrees of freedom its points have, at which scale, how surely.

Start with :func:`lodim.geometry.intrinsic_dimensions` (everything on one neighbour graph) or
:class:`lodim.geometry.IntrinsicDimension` (one estimator, the scikit-learn way).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
