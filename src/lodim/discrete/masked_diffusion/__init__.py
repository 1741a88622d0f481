"""Text, molecules, codes or rows of categories, uncovered in any order: one masked-token loss and an exact sampler.

``model`` has the method, :class:`MaskedDiffusion`; ``samplers`` the two ways to uncover a sequence; ``schedules`` how
the hidden share grows with time; ``precision`` what random numbers of low precision do to draws of tokens.

Source: K. Zheng and others, 2024, arXiv 2409.02908.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
