"""A small image generator that looks up neighbours in an external database, which can be swapped after training.

``database`` retrieves: :class:`Retrieval` holds the database, finds the neighbours to train with, draws what to look up
when sampling, and checks samples for copies. ``diffusion`` generates with it by diffusion,
:class:`RetrievalDiffusion`; ``transformer`` code after code, :class:`RetrievalTransformer`, with the vocabulary of
``codes``, :class:`PatchCodebook`. ``curves`` measures what a smaller database, or a narrower choice from it, does to
samples.

Source: A. Blattmann and others, 2022, arXiv 2204.11824.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
