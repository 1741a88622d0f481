"""Groups in data and labels for few of its rows: how many groups there are, which rows surely belong, which are new.

:func:`groups` is the front: how many groups a table or embeddings hold, whether that repeats, and which rows are
separable. Behind it and beside it stand five systems, one file or folder each. They share ``partial_labels``, the one
way in which rows without a label are marked.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
