"""The toy problem: its intrinsic dimension is the number of its constraints, whatever the number of parameters.

The paper (Section 2, Figure 1): a thousand parameters, ten sums to be met; random subspaces of ten dimensions or more
hold a solution, smaller ones do not. The authors optimise by gradient descent; here each subspace's optimum is exact.

Source: C. Li et al., 2018, arXiv 1804.08838.
"""

from __future__ import annotations

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.landscape import toy_sum_problem

# Mean performances at d = 6 ... 10 behind the paper's Figure 1.
PUBLISHED = {6: 6e-11, 7: 3e-9, 8: 0.048, 9: 0.165, 10: 0.9998}


def run(seed: int, progress: Progress) -> Findings:
    """Find the transition for ten groups of a hundred, and for five groups and twice the parameters."""
    ten = toy_sum_problem(1000, 10).curve(range(1, 21), n_seeds=5, random_state=seed)
    others = {}
    for D, groups in ((1000, 5), (2000, 10)):
        curve = toy_sum_problem(D, groups).curve(range(1, 2 * groups + 1), random_state=seed)
        others[f"D={D}, {groups} groups"] = curve.d_int
    mean = dict(zip(ten.dims, ten.performance.mean(1).tolist(), strict=True))
    checks = (
        check_between("intrinsic dimension, D = 1000 with ten groups", ten.d_int, 10, 10, paper=10),
        check_between(
            "least performance from d = 10 on", ten.performance[9:].min(), 0.999, 1.0, paper=0.9998
        ),
        check_between(
            "largest mean performance up to d = 8", max(mean[d] for d in range(1, 9)), 0.0, 0.5, paper=0.048
        ),
        check_between("intrinsic dimension with five groups", others["D=1000, 5 groups"], 5, 5),
        check_between("intrinsic dimension with D = 2000", others["D=2000, 10 groups"], 10, 10),
    )
    figures = {
        "mean performance": {str(d): value if value > 1e-99 else 0.0 for d, value in mean.items()},
        "published": {str(d): value for d, value in PUBLISHED.items()},
        "d_int": {"D=1000, 10 groups": ten.d_int, **others},
    }
    return Findings(checks, figures, NOTES)


NOTES = (
    "Below ten dimensions performance is exp(-loss) at the exact optimum of a random subspace through a random origin; "
    "the published values there depend on the authors' origins and optimiser.",
)

CLAIM = Claim(
    name="objective-landscapes/toy",
    arxiv="1804.08838",
    statement="A problem of ten constraints on a thousand parameters has intrinsic dimension ten exactly.",
    laptop=run,
    minutes=0.1,
    fast=True,
)
