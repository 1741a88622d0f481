"""Generative models of continuous data: one denoiser, trained once and used for everything.

:class:`Diffusion` trains a small generator on arrays or images and samples from it; :class:`Denoiser` is what it
learns, with score, noise and velocity as other words for it; samplers, schedules, losses and guidance are plain
functions and small classes around it. All systems of this area share them: the files ``denoiser``, ``schedules``,
``losses``, ``samplers``, ``guidance``, ``diffusion``, ``pictures`` and ``adapters``; ``jacobian`` and
``denoiser_dimension``, which read a trained denoiser; and ``autoencoding``, the likelihoods of decoder models.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
