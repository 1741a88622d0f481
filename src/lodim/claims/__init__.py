"""Claims: every system's evidence, run and recorded.

A claim is a function that runs a paper's headline experiment, at the scale of a laptop or of the paper, and returns
its checks. :func:`run_claim` runs one and records what came out under ``evidence/``, with the machine's description;
:func:`evidence_page` and :func:`areas_table` show those records. A claim that fails stays in the tables and says so.

>>> from lodim.claims import list_claims, run_claim
>>> print(run_claim("objective-landscapes/toy"))  # doctest: +SKIP
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
