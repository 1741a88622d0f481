"""Features in which every curved cluster is a flat subspace, and the clusters, without labels (arXiv 2301.01805)."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
