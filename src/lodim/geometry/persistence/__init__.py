"""Multiparameter persistence: the shape of data seen through two filtrations at once, as features and as a loss.

A filtered complex (:mod:`~lodim.geometry.persistence.bifiltrations`) is measured in one of two ways. As a *signed
measure*, which carries gradients: :class:`SignedMeasureLayer`, the losses and :func:`optimize_points` (arXiv
2406.07224). As *candidate intervals*, turned into stable images for any classifier:
:class:`MultiparameterPersistence` and its parts (arXiv 2306.11170). :func:`topology_summary` counts the components
and loops of a data set that noise does not explain.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
