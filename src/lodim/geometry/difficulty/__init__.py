"""How many bits of assumptions a task needs beyond its training data (arXiv 2305.01034)."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
