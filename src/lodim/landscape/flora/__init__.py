"""Low-rank updates that keep the shape of a weight: Tucker adapters for layers of any number of modes.

FLoRA (C. Si et al., 2024, arXiv 2405.14739). :func:`inject_flora` puts adapters into a model and :func:`remove_flora`
takes them out, merged or not; the layers themselves are ``FLoRALinear``, ``FLoRAConv2d`` and their kin, and
:class:`FLoRAWeight` adapts any parameter as a torch parametrization. :func:`tucker_energy` tells how low-rank an update
really is.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
