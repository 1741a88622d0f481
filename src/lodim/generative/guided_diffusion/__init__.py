r"""Diffusion models that are steered: conditions, subspaces, rewards; on the core that this whole area shares.

The survey states diffusion models in continuous time and asks how guidance changes what is drawn, how fast the score is
learnt when data have few intrinsic dimensions, and how conditional sampling can serve as an optimiser. Its first part,
the process, losses, samplers and guidance, is the core: ``lodim.generative.schedules``, ``denoiser``, ``losses``,
``samplers``, ``guidance`` and ``diffusion``, each with its equations. Here are the three answers.

==============  ==================================================================================================
file            what it holds
==============  ==================================================================================================
``subspace``    :math:`D(x, \sigma) = c + V D_{low}(V^T (x - c), \sigma)`: a denoiser that learns the subspace its
                data lie in (section 5)
``reward``      generation towards a high reward, by a condition or by a gradient through the denoiser (section 6)
``sweep``       what a guidance's scale does to certainty and diversity (section 4)
==============  ==================================================================================================

Source: Minshuo Chen and others, 2024, arXiv 2404.07771.
Departures from the paper: canonical coordinates, :math:`x / \alpha` and :math:`\sigma / \alpha`, everywhere; the
guidance's scale is :math:`1 + w`; those of each part stand in its file.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
