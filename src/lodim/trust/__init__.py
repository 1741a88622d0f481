"""What a model that works must answer for: its reasons, its probabilities, other places, and what can fool it.

:func:`report` is the front: the four questions asked of any classifier, with what was not checked. Behind it and beside
it stand four systems, one file or folder each. They share ``black_boxes``, the one way in which a trained classifier is
taken as a function.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
