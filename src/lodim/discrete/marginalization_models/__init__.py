"""The probability of any subset of discrete variables in one call, learnt from data or from an energy.

``model`` has the method, :class:`MarginalizationModel`; ``training`` fits it; ``ising`` is a lattice whose every
marginal is known, to check it by; ``molecules`` reads and judges strings of molecules.

Source: S. Liu, P. Ramadge, R. Adams, 2023, arXiv 2310.12920.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
