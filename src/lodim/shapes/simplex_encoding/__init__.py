"""A multiresolution hash encoding on simplices: d + 1 look-ups where a grid needs 2^d.

``encoding`` has the encodings, on simplices, on a grid and on Kuhn's subdivision; ``fields`` puts a small network
behind one and fits images, shapes and radiance fields; ``costs`` times the three by dimension.

Source: Y. Wen, Y. Yang, 2023, arXiv 2311.15439.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
