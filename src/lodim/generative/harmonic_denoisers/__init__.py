r"""Find out whether a diffusion model memorises its training images or has learnt their density, and in which basis.

A denoiser f that minimises :math:`E\,|x - f(y)|^2` over :math:`y = x + \sigma z` is the score of the noisy density,
:math:`\nabla \log p_\sigma(y) = (f(y) - y) / \sigma^2`, and what it errs by in excess bounds how far the density it
stands for is from the true one:

.. math:: \mathrm{KL}(p \,\|\, p_\theta) \le \int_0^\infty
          \big(\mathrm{MSE}(f_\theta, \sigma) - \mathrm{MSE}(f^\star, \sigma)\big)\, \sigma^{-3} \, d\sigma .

Two denoisers trained on disjoint images tell whether it is the density that was learnt: started from the same noise,
both samplers then end at nearly the same image, and it is none of the training set's
(:func:`memorization_curve`). The denoiser's Jacobian tells how (:mod:`lodim.generative.jacobian`): its eigenvectors are
oscillations that follow the image's contours, its eigenvalues shrink. On images whose best denoiser is known
(:mod:`lodim.datasets.image_families`) :func:`psnr_curve` shows what is missing.

===========================================  ====================================================
symbol in the paper                          name here
===========================================  ====================================================
:math:`f(y)`                                 ``net.denoise(y)``, or ``net(y)`` of what has no ``denoise``
:math:`S_1, S_2, N`                          the two disjoint subsets, an entry of ``sizes``
:math:`\sigma_0, \sigma_L, h, \beta`         ``sigma_0``, ``sigma_L``, ``h``, ``beta``
:math:`M, M^\top x`                          ``Measurement.back``, ``Measurement.measure``
:math:`\lambda_k, e_k`                       ``JacobianBasis.values``, ``JacobianBasis.vectors``
:math:`\alpha / (\alpha + 1)`                ``PSNRCurve.slope()``
===========================================  ====================================================

:mod:`.denoising` trains and judges one denoiser, :mod:`.sampling` draws from it and compares two.

Sources: Z. Kadkhodaie, F. Guth, E. P. Simoncelli and S. Mallat, 2023, arXiv 2310.02557, and their code; the sampler:
Z. Kadkhodaie and E. P. Simoncelli, arXiv 2007.13640; risk without clean images: C. Stein, Ann. Statist. 9 (1981).
Departures: every image stops by itself; the sampler's steps grow, as they do in the code, only where asked for, because
samples then vary too little; all subsets are seen in equally many presentations, which the number of steps fixes: with
more of them memorisation lasts up to larger N.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
