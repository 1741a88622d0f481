"""Multiparameter persistence as a loss: layers, losses and descent on points (arXiv 2406.07224).

:class:`SignedMeasureLayer` gives signed measures whose points carry gradients, :func:`sm_distance` and
:class:`TopologicalLoss` compare them, :func:`optimize_points` and :class:`TopologicalRegularizer` use that.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
