"""Geometry of a data set: how many dimensions its points really have, and how sharply its labels change.

:func:`intrinsic_dimensions` answers the first question with several estimators on one neighbour graph,
:class:`IntrinsicDimension` is one estimator the scikit-learn way, :class:`LabelSharpness` answers the second, and
:func:`fit_scaling_law` relates both to how a model's loss falls with more data.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
