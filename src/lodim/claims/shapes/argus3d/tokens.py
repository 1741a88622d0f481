"""What a latent vector costs, and what a grid of codes of the same detail does: 64 tokens a shape against 512.

Tables and chairs alone, 600 to train on and 60 others to test. A tokenizer of 8 x 8 tokens, and two priors over
its codes, one that writes them row by row, one in a random order. Ranges, set before anything was run: a mean IoU of
reconstructions at 32^3 of 0.70 or more; a training step of the GPT over the 8^3 tokens of ``latent="grid"`` takes 6
times as long as one over 64 or more, both at batches of 16, the least of five each, in turn. The tokenizer of the grid
is built and encodes, to count its tokens; it is not trained, since its convolutions in 3-D take far longer. What the
two orders come to (nats a token on test shapes) stands beside, without a range.

Source: X. Qian and others, 2024, arXiv 2402.12225, section 3.1 and its ablation of the grid.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress, check_between
from lodim.claims.shapes.argus3d.generation import N_POINTS, small_model, volume_ious
from lodim.extras import missing
from lodim.randomness import as_generator, derive_seed, torch_generator
from lodim.shapes.argus3d import Argus3D, ShapeGPT

FAMILIES = ("table", "chair")
BATCH = 16


def step_seconds(priors: dict[str, ShapeGPT], rounds: int, seed: int) -> dict[str, float]:
    """Least time of a loss and its gradient, of each in turn."""
    source, least = torch_generator(seed), dict.fromkeys(priors, np.inf)
    for _ in range(rounds + 1):
        for name, prior in priors.items():
            tokens = torch.randint(prior.n_codes, (BATCH, prior.n_tokens), generator=source)
            begun = time.perf_counter()
            prior.train().loss(tokens, y=0, generator=source).backward()
            least[name] = min(least[name], time.perf_counter() - begun)
            prior.zero_grad(set_to_none=True)
    return least


def run(
    seed: int,
    progress: Progress,
    n_train: int = 600,
    n_test: int = 60,
    tokenizer_steps: int = 1000,
    prior_steps: int = 200,
    rounds: int = 5,
) -> Findings:
    """Train stage one, then priors in two orders; time the steps."""
    if missing("shapes"):
        raise ClaimSkipped("solids need the extra: pip install 'lodim[shapes]'")
    from lodim.datasets.solids import procedural_solids
    from lodim.shapes.argus3d import shape_set

    solids = {
        what: procedural_solids(n, FAMILIES, random_state=derive_seed(seed, what))
        for what, n in (("train", n_train), ("test", n_test))
    }
    train, test = (
        shape_set(solids[what], n_points=N_POINTS, random_state=derive_seed(seed, "points", what))
        for what in ("train", "test")
    )
    model, grid = small_model(seed, 8), small_model(seed, 8, latent="grid")
    assert grid.tokenizer.encode(torch.from_numpy(test.points[:2])).shape[1] == grid.prior.n_tokens
    seconds = step_seconds({"vector": model.prior, "grid": grid.prior}, rounds, derive_seed(seed, "times"))
    del grid
    model.fit_tokenizer(
        train,
        steps=tokenizer_steps,
        lr=1.5e-3,
        random_state=derive_seed(seed, "one"),
        progress=progress.part(0.1, 0.6),
    )
    ious = volume_ious(model, test.points, solids["test"])
    order = as_generator(derive_seed(seed, "order")).permutation(model.prior.n_tokens).tolist()
    shuffled = ShapeGPT(
        model.prior.n_codes, model.prior.n_tokens, 128, 4, 4, n_classes=8, order=order,
        random_state=derive_seed(seed, "prior"),
    )  # fmt: skip
    tokens, labels = model.tokenizer.encode(torch.from_numpy(test.points)), torch.from_numpy(test.labels)
    nats: dict[str, float] = {}
    for i, (name, prior) in enumerate((("rows", model.prior), ("random", shuffled))):
        both = Argus3D(model.tokenizer, prior)
        both.fit_prior(
            train, steps=prior_steps, random_state=derive_seed(seed, "two"),
            progress=progress.part(0.6 + 0.2 * i, 0.8 + 0.2 * i),
        )  # fmt: skip
        with torch.no_grad():
            nats[name] = float(prior.eval().loss(tokens, y=labels))
    usage, ratio = model.code_usage(test), seconds["grid"] / seconds["vector"]
    figures: dict[str, Any] = {
        "iou": float(ious.mean()), "step_seconds": seconds, "ratio": ratio, "nats_a_token": nats,
        "tokens": {"vector": model.prior.n_tokens, "grid": 8**3}, "codes_used": usage.used,
        "perplexity": usage.perplexity,
    }  # fmt: skip
    return Findings(
        (
            check_between("mean IoU of reconstructions of test shapes", ious.mean(), 0.70, 1.0),
            check_between(
                "step of the GPT over a grid of codes, over that over a vector", ratio, 6.0, 1000.0
            ),
        ),
        figures,
        ("at 32 tokens a side, as in the paper, a grid would have 32 times the tokens, not 8",),
    )


CLAIM = Claim(
    name="argus3d/tokens",
    arxiv="2402.12225",
    statement=(
        "A shape fits into as many codes as one of its planes has places, and a GPT over those learns at a small "
        "part of the cost of one over a grid of codes."
    ),
    laptop=run,
    needs=("shapes",),
    minutes=7.0,
)
