"""The catalogue: 56 published methods, one card each, and ways to find the one that fits.

A card is a TOML file under ``cards/``: what the method is for, what it needs and costs, when to leave it alone, where
its code is. Searching, listing and recommending use the standard library's SQLite only, offline; with the extra
``semantic`` searches also compare meanings. Importing this room loads neither torch nor pandas nor scikit-learn.

>>> from lodim.catalog import find_card, recommend, search
>>> search("differential privacy").hits[0].slug  # doctest: +SKIP
>>> print(recommend({"text": "groups without labels", "data_kinds": ["tabular"], "n_rows": 500}))  # doctest: +SKIP
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
