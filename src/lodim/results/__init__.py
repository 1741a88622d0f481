"""What the library hands back and what it keeps: results, and the records of claims.

:class:`Result` makes a frozen dataclass print, tabulate and travel as JSON. :class:`ClaimResult` is the one form of a
claim's record: :mod:`lodim.claims` writes it, the catalogue and the pages read it (:func:`read_records`).
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
