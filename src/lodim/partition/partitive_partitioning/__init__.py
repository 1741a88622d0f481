"""A partition that is the same at every run, with the number of clusters chosen (arXiv 2003.04372).

``partition`` has the method, ``kmeans`` the k-means without chance that it stands on, and ``reports`` what judges a
partition of any clusterer: whether it repeats, how compact it is, and the usual curves over k side by side.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
