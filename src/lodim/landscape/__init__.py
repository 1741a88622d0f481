"""How few numbers a model needs: training inside random subspaces, measuring the least size, compressing to it.

:class:`LandscapeDimension` finds the intrinsic dimension of an objective landscape, :class:`SubspaceModule` trains any
module inside d numbers, :class:`CompressedModel` stores the result as a seed and a message, and
:func:`compression_bound` says what the message's length certifies.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
