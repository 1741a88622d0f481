"""Every way of spending few numbers, on one task at equal bytes: :func:`lodim.landscape.compare`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
