"""Kernel density estimation in many dimensions: the bandwidth, and whether a value means anything.

:class:`HighDimKDE` is the estimator, :func:`density_regime` the short answer for a data set, :func:`kde_theory` and
:func:`regime_map` the theory, :func:`empirical_phi` measures what the theory needs on any data, and
:func:`density_fluctuations` tests its law of fluctuations.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
