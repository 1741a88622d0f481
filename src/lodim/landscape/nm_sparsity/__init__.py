"""N of every M weights: training networks whose every M consecutive weights hold N that are not zero.

:class:`NMSparsifier` trains any module into such a pattern, after one of eight recipes; :func:`nm_mask`,
:func:`apply_nm_mask` and :func:`check_nm` make and check the pattern, :func:`compress` stores it.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
