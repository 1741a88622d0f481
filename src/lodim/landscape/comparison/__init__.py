"""How to spend few numbers.

:func:`compare` trains one model in every way (subspaces, adapters, codes, sparsity ...) at equal bytes,
:func:`compare_adapters` fine-tunes with adapters and subspaces of equally many numbers, and :func:`suggest_adapter`
goes from a measured dimension to an adapter of that size.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
