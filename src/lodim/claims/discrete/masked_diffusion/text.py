"""English text: what the bound reaches, what few calls cost, and first hitting as good as many steps and cheaper.

Python's help topics as 27 characters, in sequences of 32; a network of dilated convolutions is trained on the first
95 % of them, 3,400 steps of 64. A trigram model of the training text judges 1,000 samples of each sampler.

Ranges, set before anything was run, from an independent prototype of 3,425 steps and 192 samples a sampler: 2.42 bits
a character of the bound on held-out text; perplexity 9.64 of first hitting (entropy 2.491), 10.3 of ancestral sampling
in 128 steps (2.476), 149 of one call for all places; 5.3 times the time for the ancestral steps. So a bound of at most
2.7, perplexities of first hitting and ancestral sampling within 15 %, one call at least five times as bad, and first
hitting at least three times as cheap. Real text (5.95, entropy 2.457) and other budgets are figures.

Source: K. Zheng and others, 2024, arXiv 2409.02908, section 4: OpenWebText, sequences of 1,024 tokens.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch

from lodim.claims.result import Claim, ClaimSkipped, Findings, Progress, check_between
from lodim.datasets.prose import load_prose
from lodim.discrete import MaskedDiffusion
from lodim.discrete.sequences import NGramScorer, bits_per_dim, generative_perplexity
from lodim.nets import DilatedConvNet
from lodim.randomness import build_seeded, derive_seed, torch_generator

LENGTH, TOKENS, STRIDE = 32, 27, 4


def windows() -> tuple[Any, Any]:
    """Training and held-out sequences: the first overlap, the others do not."""
    try:
        characters = np.frombuffer(load_prose().encode(), np.uint8).astype(np.int64)
    except OSError as error:
        raise ClaimSkipped(str(error)) from error
    tokens = np.where(characters == ord(" "), 0, characters - ord("a") + 1)
    cut = int(0.95 * len(tokens))
    train = np.lib.stride_tricks.sliding_window_view(tokens[:cut], LENGTH)[::STRIDE]
    rest = tokens[cut:]
    return train, rest[: len(rest) // LENGTH * LENGTH].reshape(-1, LENGTH)


def trained(train: Any, seed: int, progress: Progress, steps: int = 3400) -> MaskedDiffusion:
    """A model of the training text."""
    net = build_seeded(lambda: DilatedConvNet(TOKENS + 1, LENGTH), derive_seed(seed, "net"))
    model = MaskedDiffusion(TOKENS, LENGTH, net)
    own = derive_seed(seed, "training")
    return model.fit(train, steps=steps, batch_size=64, lr=3e-3, random_state=own, progress=progress)


def judge(train: Any) -> NGramScorer:
    """A trigram model of the training text, each character counted once."""
    return NGramScorer(TOKENS).fit(train[:: LENGTH // STRIDE])


def seconds_each(model: MaskedDiffusion, ways: dict[str, dict[str, Any]], n: int = 192) -> dict[str, float]:
    """The median of three processor times of each way, in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(3):
        for name, options in ways.items():
            start = time.process_time()
            model.unmask(n, generator=i, **options)
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in taken.items()}


def laptop(seed: int, progress: Progress) -> Findings:
    """Train, bound, sample in several ways, and time two of them."""
    train, held = windows()
    model = trained(train, seed, progress.part(0, 0.7))
    draws, rest = torch_generator(derive_seed(seed, "bound")), torch.from_numpy(held)
    with torch.no_grad():
        bits = {
            form: float(bits_per_dim(-model.nelbo(rest, form=form, generator=draws).mean(), LENGTH))
            for form in ("count", "time")
        }
    ways: dict[str, dict[str, Any]] = {"first hitting": {}}
    ways |= {f"first hitting, {n} calls": {"steps": n} for n in (16, 8)}
    ways["first hitting, one call"] = {"steps": 1}
    ways |= {f"ancestral, {n} steps": {"sampler": "ancestral", "steps": n} for n in (8, 32, 128)}
    scorer = judge(train)
    found = {"held-out text": generative_perplexity(held, scorer)}
    for name in progress.part(0.75, 0.95).over(ways):
        drawn = model.unmask(1000, generator=derive_seed(seed, name), **ways[name])
        found[name] = generative_perplexity(drawn.tokens, scorer)
    seconds = seconds_each(model, {name: ways[name] for name in ("first hitting", "ancestral, 128 steps")})
    exact, steps, once = (
        found[name].perplexity
        for name in ("first hitting", "ancestral, 128 steps", "first hitting, one call")
    )
    checks = (
        check_between("bound on held-out text, bits a character", bits["count"], 0, 2.7),
        check_between("perplexity, first hitting over ancestral in 128 steps", exact / steps, 0.85, 1.15),
        check_between("perplexity, one call over first hitting", once / exact, 5, 1e3),
        check_between(
            "time, ancestral in 128 steps over first hitting",
            seconds["ancestral, 128 steps"] / seconds["first hitting"], 3, 1e3,
        ),
    )  # fmt: skip
    figures = {
        "bits a character": bits,
        "judged": {name: vars(one) for name, one in found.items()},
        "seconds for 192": seconds,
    }
    return Findings(checks, figures, ("times are of the processor, in turn, the median of three",))


CLAIM = Claim(
    name="masked-diffusion/text",
    arxiv="2409.02908",
    statement="First hitting samples text as well as many small steps do, with fewer calls; fewer still cost quality.",
    laptop=laptop,
    minutes=4.0,
)
