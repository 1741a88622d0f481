"""lodim: find how few dimensions a problem really needs, and use only those.

>>> import lodim
>>> answer = lodim.profile(X, y)  # doctest: +SKIP
>>> print(answer.verdict)  # doctest: +SKIP

Areas load on first use, so ``import lodim`` costs next to nothing.
"""

import lazy_loader as _lazy

from lodim import _renamed

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

_renamed.install()
