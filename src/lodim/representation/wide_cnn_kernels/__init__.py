r"""What infinitely wide convolutional networks can learn: their kernels, spectra, and learning curves.

**Problem.** A network of infinite width is a kernel machine: at initialisation a Gaussian process (NNGP), under small
steps of gradient descent the neural tangent kernel (NTK). So what depth and locality buy can be computed. The answer:
where the target depends on one small patch of the input, the error falls with an exponent that the dimension of the
patch sets, not that of the input; a target of random deep networks, which mixes all patches, stays cursed.

**Kernel.** A row x has non-overlapping patches of :math:`s_1` numbers, scaled to length 1. Layer :math:`l` joins
:math:`s_l` patches of the layer below; what is left of positions at the end is averaged. With

.. math:: k_0(t) = \frac{\pi - \arccos t}{\pi}, \qquad
          k_1(t) = \frac{\sqrt{1 - t^2} + (\pi - \arccos t)\, t}{\pi}

start from the cosines of patches, :math:`t = \Theta`, at every position. For l = 1, ..., L

.. math:: K' = k_1(t), \qquad \Theta' = k_0(t)\, \Theta + K', \qquad
          t = \langle K' \rangle_{s_{l+1}}, \quad \Theta = \langle \Theta' \rangle_{s_{l+1}}

(means over the next filter, at last over the remaining positions); t is then the NNGP and Theta the NTK. Rows that are
not normalised have :math:`K' = \sqrt{K_{xx} K_{yy}}\, k_1(K / \sqrt{K_{xx} K_{yy}})` with diagonals that average alike.
One patch for the whole row is the fully connected network. Two-dimensional images are the same after one permutation
of their columns, with filters of :math:`s_l^2` patches and channels inside the patch.

**Spectrum.** On patches drawn from unit spheres, the modes inside one meta-patch of layer l, of degree k, have
eigenvalues :math:`\Lambda_k \sim |k|^{-2 \nu - d_l}` with :math:`d_l = (s_1 - 1) s_2 \cdots s_l`; nu is 1/2 for the NTK
and 3/2 for the NNGP. By rank that is :math:`\lambda_r \sim r^{-1 - 2 \nu / d_L}`.

**Learning curve.** Without ridge n samples tell about the n leading modes of the student. A teacher is a Gaussian
random field with the covariance of a kernel of depth m; what it has beyond the cut is the error,
:math:`\epsilon(n) \sim n^{-\beta}`,

.. math:: \beta = \frac{2 \nu_T}{2 \nu_S + d_m} \Big(1 + \frac{2 \nu_S}{d_L}\Big), \qquad
          \text{and } \frac{2 \nu_T}{d_m} \text{ where the student is of the teacher's depth and kind.}

=====================================  ===========================================================
symbol in the paper                    name here
=====================================  ===========================================================
s_1, ..., s_L; L; p                    ``filter_sizes``; ``depth``; positions, ``fans`` has them all
Theta (NTK), K (NNGP)                  ``kind="ntk"``, ``kind="nngp"``
kappa_0, kappa_1                       ``angle / pi`` and ``K / pi`` in ``_Block``
nu, d_eff(l)                           ``smoothness``, ``effective_dimension``
beta                                   ``predicted_exponent``
P or n (samples), epsilon              ``sizes``, ``errors``
=====================================  ===========================================================

Source: Cagnetta, Favero and Wyart, 2022, arXiv 2208.01003 (ICML 2023). Arc-cosine kernels: Cho and Saul 2009; NTK:
Jacot, Gabriel and Hongler 2018, with convolutions Arora et al. 2019.

Departures from the paper. Positions are gone through depth first, a block of pairs at a time: no more than one block
for each layer is held, where the paper's code holds those of all positions of all pairs. Normalisation can be left out,
because real images have patches of zeros, which have no direction. The exponent of a student that is deeper than its
teacher is derived from the spectral cut in the form above.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
