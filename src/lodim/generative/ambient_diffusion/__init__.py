"""Train a generator of clean data when most samples are noisy, and price a noisy sample in clean ones.

``model`` has the method: :class:`AmbientDiffusion`, whose loss knows the noise of each sample, :func:`attach_noise` and
:func:`estimate_noise`. ``scaling`` answers whether mixing helps (:func:`fit_mixture`) and what a noisy sample is worth
(:func:`scaling_study`, :func:`fit_power_law`, :func:`price_bracket`). ``mixture`` is the theory's bench: mixtures of
Gaussians with known noise (:class:`HeteroscedasticGMM`).

Source: Giannis Daras and others, 2024, arXiv 2411.02780.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
