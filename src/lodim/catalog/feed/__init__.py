"""New papers of a field: taken in from files and feeds, ordered, searched, handed on (extra ``web``).

Everything is in one SQLite file and works offline; the network is used only where ``online=True`` is said.

>>> from lodim.catalog.feed import Catalog
>>> with Catalog("papers.db") as papers:  # doctest: +SKIP
...     print(papers.ingest("feed.atom"))
...     print(papers.papers("trending", since="week"))
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
