"""Data in: one loader for every named data set, one reader for whatever a person points at.

:func:`load` gives the named sets, :func:`read_source` a named set, a table (CSV, TSV, Parquet, Excel), an array file
(NPY, NPZ), a folder of images or a Python function. Everything arrives as a :class:`Dataset`: a matrix of numbers, a
target, and ``notes`` that say what was done to the data on the way in. Nothing is dropped, filled in or rescaled
without a note.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
