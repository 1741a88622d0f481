"""One family from Poisson flow to diffusion: choose the number of extra dimensions for quality or robustness.

``model`` has the method: the kernel :class:`PoissonKernel`, the generator :class:`PFGMPP` and the exact oracle
:class:`EmpiricalPoissonDenoiser`. ``robustness`` measures what noise while sampling, rounded weights and few steps do
to a generator, and at which noise samples lose sight of their datum.

Source: Y. Xu and others, 2023, arXiv 2302.04265.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
