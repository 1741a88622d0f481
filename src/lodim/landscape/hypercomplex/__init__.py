"""Weights as sums of Kronecker products: layers of 1/n the parameters, whose rules of multiplication are learned.

:class:`PHMLinear` and :class:`PHConv2d` stand where ``nn.Linear`` and ``nn.Conv2d`` do, :func:`to_hypercomplex` puts
them there in an existing model, and :func:`learn_algebra` shows one finding Hamilton's quaternions from examples.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
