"""Digits: a small network needs a few hundredths of its weights, and a wider one needs hardly more.

The paper's central observation (Section 3, Figure 4, there on MNIST): the intrinsic dimension belongs to the task more
than to the network, so doubling the weights leaves it nearly where it was. Here on scikit-learn's 8 x 8 digits, which
need no download: 64-64-64-10 (D = 8,970) and 64-100-100-10 (D = 17,610), Adam, one-cycle, 30 epochs, batches of 128.

Source: C. Li et al., 2018, arXiv 1804.08838. The accepted ranges come from an independent prototype with fixed grids of
d (direct accuracy 0.971, accuracy 0.91 at d = 200, crossing near 160), set before this was run.
"""

from __future__ import annotations

from functools import partial

from lodim.claims.landscape import problems
from lodim.claims.result import Claim, Findings, Progress, check_between, check_that
from lodim.nets import fc
from lodim.training import Recipe

RECIPE = Recipe(epochs=30, batch_size=128)


def run(seed: int, progress: Progress) -> Findings:
    """Search both networks' intrinsic dimension."""
    problem = problems.digits(seed)
    found = {}
    for i, width in enumerate((64, 100)):
        found[width] = problems.search(
            partial(fc, 64, 10, width=width, depth=2),
            problem,
            RECIPE,
            seed,
            progress.part(i / 2, (i + 1) / 2),
        )
    narrow, wide = found[64], found[100]
    checks = (
        check_between("d_int90 of 64-64-64-10, D = 8,970", narrow.d_int_, 90, 260),
        check_between(
            "d_int90 of the wider net over that of the narrower", wide.d_int_ / narrow.d_int_, 0.6, 1.7
        ),
        check_that(
            "both searches found a crossing",
            [narrow.status_, wide.status_],
            "found",
            narrow.status_ == wide.status_ == "found",
        ),
        check_between("direct accuracy", narrow.baseline_score_, 0.955, 0.99, essential=False),
    )
    return Findings(
        checks, {"64-64-64-10": problems.described(narrow), "64-100-100-10": problems.described(wide)}
    )


CLAIM = Claim(
    name="objective-landscapes/digits",
    arxiv=problems.PAPER,
    statement=(
        "A network learns small digits within a few hundred random directions, and twice the weights need hardly more."
    ),
    laptop=run,
    fast=True,
)
