"""Generative models of tokens and other discrete variables: text, molecules, lattice states, rows of categories.

:class:`MaskedDiffusion` learns to guess hidden tokens, and from that samples, completes and scores in any order;
:class:`MarginalizationModel` answers for any subset of the variables in one call. Both share the files ``masking``
(which places are hidden), ``vocabulary`` (texts and frames as tokens, and back) and ``sequences`` (scores of generated
sequences); their networks are in :mod:`lodim.nets`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
