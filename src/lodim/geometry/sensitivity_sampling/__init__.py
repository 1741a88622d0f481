"""Few weighted rows that stand for a tall matrix in the l_p norm (arXiv 2306.00732)."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
