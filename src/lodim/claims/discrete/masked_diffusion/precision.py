"""Coarse random numbers make samples look better: lower perplexity at lower entropy, as a lower temperature would.

First the law of a draw by Gumbel-max whose uniform numbers have 24 bits (float32), in closed form: 50,257 tokens of
masses as 1 / rank^1.1, each times 2 / N beside the mask, as a sampler of N steps meets them. The entropy of what is
uncovered tells the temperature. Then text, as in ``masked-diffusion/text``: 2,000 samples of ancestral sampling in 64
steps with the 11 bits of float16, mask and tokens in one draw, and as many with exact draws.

Ranges, set before anything was run. The closed form is mathematics: an independent prototype's temperatures, 0.989,
0.946, 0.882, 0.834 and 0.729 for N = 16 to 50,000, to the digits given. Of text only the direction: with 10 bits,
perplexity 9.07 at entropy 2.460 where exact draws had 10.3 to 10.9 at 2.476. So the perplexity lower by more than two
standard errors, and the entropy lower. The paper: 126.11 and 31.24 at entropies of 5.66 and 5.17.

Source: K. Zheng and others, 2024, arXiv 2409.02908, section 5: OpenWebText, float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from lodim.claims.discrete.masked_diffusion.text import judge, trained, windows
from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.discrete import effective_temperature, truncated_gumbel_probs
from lodim.discrete.sequences import generative_perplexity
from lodim.randomness import derive_seed

VOCABULARY = 50_257
TEMPERATURES = {16: 0.989, 128: 0.946, 1024: 0.882, 4096: 0.834, 50_000: 0.729}


def zipf() -> np.ndarray:
    """Masses of tokens by their rank."""
    p = 1.0 / np.arange(1, VOCABULARY + 1) ** 1.1
    return p / p.sum()


def uncovered(p: np.ndarray, n_steps: int) -> dict[str, float]:
    """What 24 bits make of a step that uncovers with probability 2 / n_steps."""
    law = truncated_gumbel_probs(np.append(p * 2 / n_steps, 1 - 2 / n_steps))[:-1]
    mass, law = float(law.sum()), law / law.sum()
    entropy = -float((law[law > 0] * np.log(law[law > 0])).sum())
    return {
        "entropy": entropy,
        "temperature": effective_temperature(p, law),
        "share uncovered": mass * n_steps / 2,
    }


def laptop(seed: int, progress: Progress) -> Findings:
    """Work out the closed form, then train and draw with few bits and with many."""
    p = zipf()
    closed = {n: uncovered(p, n) for n in TEMPERATURES}
    train, _ = windows()
    model = trained(train, seed, progress.part(0, 0.8))
    scorer = judge(train)
    ways: dict[str, dict[str, Any]] = {
        "exact": {},
        "float16, 11 bits": {"two_stage": False, "dtype": torch.float16},
        "bfloat16, 8 bits": {"two_stage": False, "dtype": torch.bfloat16},
        "float64, one draw": {"two_stage": False},
    }
    judged = {}
    for name in progress.part(0.8, 1).over(ways):
        own = derive_seed(seed, name)
        drawn = model.unmask(2000, sampler="ancestral", steps=64, generator=own, **ways[name])
        judged[name] = generative_perplexity(drawn.tokens, scorer)
    exact, coarse = judged["exact"], judged["float16, 11 bits"]
    se = math.hypot(exact.perplexity_se, coarse.perplexity_se)
    checks = [
        check_between(
            f"temperature of 24 bits in {n:,} steps", closed[n]["temperature"], t - 0.0006, t + 0.0006
        )
        for n, t in TEMPERATURES.items()
    ] + [
        check_between(
            "perplexity, exact less coarse, in standard errors",
            (exact.perplexity - coarse.perplexity) / se, 2, 1e3,
        ),
        check_between("entropy, exact less coarse, nats", exact.entropy - coarse.entropy, 1e-9, 1),
    ]  # fmt: skip
    figures = {
        "closed form": {str(n): of for n, of in closed.items()},
        "judged": {name: vars(one) for name, one in judged.items()},
        "entropy difference, standard error": math.hypot(exact.entropy_se, coarse.entropy_se),
    }
    notes = (
        "mask and tokens in one draw of float64 must do as exact draws do",
        "the closed form cuts the noise; torch's numbers lie on a grid as well, which does up to half less harm",
    )
    return Findings(checks, figures, notes)


CLAIM = Claim(
    name="masked-diffusion/precision",
    arxiv="2409.02908",
    statement="Draws with coarse random numbers act as a lower temperature: perplexity falls, and entropy with it.",
    laptop=laptop,
    minutes=4.0,
)
