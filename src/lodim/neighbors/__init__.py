"""Neighbours and pair distances without an n x n matrix.

:func:`stream_pairs` passes once over blocks of squared distances and feeds any number of reducers;
:class:`NeighborGraph` holds the k nearest neighbours of some or all points, exact in double precision.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
