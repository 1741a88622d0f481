r"""The few columns that a black box answers by, a readable model on these, and numbers that say how faithful that is.

**Problem.** A classifier on fifty to twenty thousand columns gives answers and no reasons. Rank the columns by what its
answers depend on, take the first k, train a small model on these to give the black box's answers, and read its rules.

=============================  ===================================================================================
in the paper                   name here
=============================  ===================================================================================
CAE embedding and classifier   :class:`ConvEmbeddingClassifier` (:mod:`.networks`)
SAN, attention                 :class:`SelfAttentionNetwork`, :class:`SelfAttentionClassifier` (:mod:`.networks`)
sensitivity, perturbing        :func:`feature_importance` (:mod:`.importance`)
comprehensiveness, sufficiency :func:`comprehensiveness`, :func:`sufficiency` (:mod:`.importance`)
decision rules                 :class:`Rule` (:mod:`.rules`)
surrogate, counterfactual      :class:`SurrogateExplainer` (:mod:`.surrogate`)
fidelity, R^2                  :class:`SurrogateReport` (:mod:`.surrogate`)
=============================  ===================================================================================

Rankings are combined by the mean of reciprocal ranks; k is the smallest whose surrogate agrees with the black box on
held-out rows within 0.01 of the best k.

Source: Md. Rezaul Karim and others, 2022, arXiv 2208.13405 (DeepExplainHidim).

Departures from the paper, which shows rankings without their noise. Every ranking stands beside a random one, a test of
each column against noise, and the agreement of its first k between bootstraps beside that of k random columns; every
share has an interval. Attention ranks by the weights of rows, never by the diagonal of its matrix, and weights of codes
are not taken for weights of columns (:mod:`.networks`). Rules are pruned on held-out rows. A counterfactual is asked of
the black box itself, and another is tried where it does not agree.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
