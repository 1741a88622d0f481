"""The main job: how many dimensions a data set and a model on it really need, as one answer.

:func:`profile` measures (:mod:`~lodim.profiling.data_part`, :mod:`~lodim.profiling.landscape_part`),
:class:`Profile` is the answer as data (:mod:`~lodim.profiling.result`), :mod:`~lodim.profiling.advice` says what
follows, :mod:`~lodim.profiling.report` writes the page.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
