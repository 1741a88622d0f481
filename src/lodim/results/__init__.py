"""What the library hands back and what it keeps: results, and the records of claims.

:class:`Result` makes a frozen dataclass print, tabulate and travel as JSON. ``lodim.results.records`` has the one form
of a claim's record, which :mod:`lodim.claims` writes and the catalogue and the pages read.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
