"""Multiparameter persistence: the shape of data seen through two filtrations at once, as features (arXiv 2306.11170).

A filtered complex (:mod:`~lodim.geometry.multiparameter_persistence.bifiltrations`) becomes *candidate intervals*, and
those stable images for any classifier: :class:`MultiparameterPersistence` and its parts. :func:`topology_summary`
counts the components and loops of a data set that noise does not explain. The signed measures computed here carry
gradients in :mod:`lodim.geometry.differentiable_persistence`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
