r"""When does fitting unlabelled data first beat supervised learning, and how many labels does it save?

**Problem.** Of m rows only x is known, of n more the label y too, n being small. Fit a model of x with a latent z by
maximum likelihood, then a small predictor of y on what it infers of z:

.. math::
    \hat\phi = \arg\max_\phi \sum_{i \le m} \log p_\phi(x_i, s_i), \qquad
    \hat\psi = \arg\min_\psi \frac1n \sum_{j \le n} \ell\big(g_{\hat\phi, \psi}(x_j), y_j\big),

where s is side information if there is any (which rows are alike) and g the Bayes prediction under both models:
:math:`E_{z|x}[\psi(z)]` for the squared distance, :math:`\sum_z p_\phi(z | x)\, \psi(y | z)` for classes.

**When it pays.** Let y be independent of x given z, and the model *informative*: what is near in the law of (x, s) is,
up to transformations of z that the predictor absorbs, near in the law of (x, z), by a factor kappa. Then

.. math:: \text{excess risk} \lesssim \kappa \sqrt{C_\Phi / m} + \sqrt{C_\Psi / n}, \qquad
          \text{supervised: } \sqrt{C_{\Phi \circ \Psi} / n},

so that unlabelled rows help if m is large beside n and the predictor small beside the whole. Three instances:

- *factors*: x = mean + B z + noise, y linear in z; rotations of z are absorbed; d r numbers against r;
- *mixture*: z is the component, y drawn by a table of K rows; permutations are absorbed; about K d numbers against K;
- *contrast*: of pairs it is known whether they are alike, with probability sigmoid(f(x)'f(x')); rotations of f are
  absorbed, and y is linear in f.

Constants of such bounds say nothing about a given table. So here are the estimators, a formula for the excess risk of
the factor model that is exact in the limit of many columns (:func:`~.surfaces.predict_excess_risk`), and the gain
measured over m and n (:func:`~.surfaces.learning_surface`).

==========================  =======================================================================================
symbol in the paper         name here
==========================  =======================================================================================
m, n                        rows of ``X_unlabelled``, of ``X``; ``m``, ``n``
phi, Phi                    ``pretrainer``: ``FactorPretrainer``, ``MixturePretrainer``, ``ContrastivePretrainer``
psi, Psi                    ``head``: least squares, ``TableHead``, ``TunedLogistic``
g, z given x                ``predict``; ``posterior(X)``, posterior means of factors, probabilities of components
B, beta; their r and d      ``loadings_`` (d, r), ``FactorModel.coef``; ``n_components``, columns of X
s, f                        ``similar``, ``encoder_``
kappa                       no number of it; ``informativeness`` looks for the same thing in the data
==========================  =======================================================================================

Source: Jiawei Ge, Shange Tang, Jianqing Fan and Chi Jin, 2023, arXiv 2303.01566, sections 3 to 6.

Departures from the paper. Phase one also learns from the inputs of labelled rows, unless told not to. The number of
components may be chosen from the data, and may come out as none. Tables are smoothed; predictors of factors have an
intercept, and the least norm where there are more columns than rows. Pairs, where there are none, are two noisy views
of one row against views of two.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
