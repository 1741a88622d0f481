"""Random linear maps R^d <-> R^D behind one interface: training in random subspaces, sketching gradients and data.

:func:`make_projection` makes one by name; every one is an ``nn.Module`` with ``forward`` (``P v``), ``adjoint``
(``P^T g``) and ``matrix``, fixed by its seed on every device.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
