"""Objects in three dimensions from single pictures of them: a GAN of radiance fields that is trained on patches.

``generator`` makes three planes of features of noise and draws the field they hold, :class:`TriplaneGenerator`;
``discriminator`` scores patches and is told which they are, :class:`PatchDiscriminator`; ``patches`` draws these;
``training`` puts both together, :class:`EpiGRAF`; ``cameras`` says from where pictures are taken, and ``consistency``
whether views show one object.

Source: I. Skorokhodov, S. Tulyakov, Y. Wang, P. Wonka, 2022, arXiv 2206.10535.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
