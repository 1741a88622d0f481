"""The web pages: papers, methods and claims in a browser, on one's own machine or for a group.

Thin: every answer comes from :mod:`lodim.catalog`, :mod:`lodim.profiling` and :mod:`lodim.claims`; here it is only
shown. Pages are made on the server and work without JavaScript; nothing is loaded from another host.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
