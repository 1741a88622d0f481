"""Sort unlabelled rows of a table into new classes, using what the known classes teach (arXiv 2311.05440).

Source: Colin Troisemaine and others, A Practical Approach to Novel Class Discovery in Tabular Data, 2023, arXiv
2311.05440. ``projection`` has the paper's proposal, ``clustering`` its two clusterings that respect known classes and
the count of new ones, ``search`` the tuning by hidden classes, ``tabular_ncd`` the method it is compared with.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
