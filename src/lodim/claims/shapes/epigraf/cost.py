"""What a step costs on patches of half the side, and on whole images: time, and what is kept for the gradient.

Images of 64 pixels, patches of 32, so a quarter of the rays; batches of 8, the networks of the claim ``patches``. A
discriminator of whole images has the same depth. Ranges, set before anything was run: a step of both players on
patches takes at most 0.35 of one on whole images, the least of five each, in turn; the generator's own at most 0.4
(2.5 times as fast); its loss keeps at most a third of the bytes for the backward pass (all tensors that autograd saves,
each storage once).

Source: I. Skorokhodov and others, 2022, arXiv 2206.10535, section 4 and table 1 (2.5 times as fast as designs with an
upsampler, which is another comparison: those render a quarter of the resolution).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.claims.shapes.epigraf.patches import BATCH, PATCH, SIDE, small_model
from lodim.randomness import derive_seed, forked_torch_rng


def saved_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes of the storages that autograd keeps for the gradient of a loss, parameters included."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # alive until the sum is taken, so that no storage is counted twice or replaced by another
        value = loss()
    total = sum(kept.values())
    del value
    return total


def run(seed: int, progress: Progress, rounds: int = 5) -> Findings:
    """Time both, in turn."""
    with forked_torch_rng(derive_seed(seed, "draws")):
        images = torch.rand(BATCH, 3, SIDE, SIDE)
        models = {side: small_model(seed, "beta", patch_resolution=side).train() for side in (PATCH, SIDE)}
        both: dict[int, float] = dict.fromkeys(models, np.inf)
        own: dict[int, float] = dict.fromkeys(models, np.inf)
        # the first is to warm up
        for k in progress.over(range(rounds + 1)):
            for side, model in models.items():
                begun = time.perf_counter()
                model.discriminator_loss(images).backward(inputs=[*model.discriminator.parameters()])
                between = time.perf_counter()
                model.generator_loss(BATCH).backward(inputs=[*model.generator.parameters()])
                ended = time.perf_counter()
                if k:
                    own[side], both[side] = min(own[side], ended - between), min(both[side], ended - begun)
                model.zero_grad(set_to_none=True)
        kept = {side: saved_bytes(partial(model.generator_loss, BATCH)) for side, model in models.items()}
    return Findings(
        (
            check_between("step on patches over that on whole images", both[PATCH] / both[SIDE], 0.0, 0.35),
            check_between("the generator's alone", own[PATCH] / own[SIDE], 0.0, 0.4),
            check_between("bytes kept for its gradient", kept[PATCH] / kept[SIDE], 0.0, 1 / 3),
        ),
        {"seconds": both, "generator_seconds": own, "bytes": kept},
        (
            "one processor; R1 is in the discriminator's loss every time, where training has it in each 16th step",
        ),
    )


CLAIM = Claim(
    name="epigraf/cost",
    arxiv="2206.10535",
    statement="Training on patches of half the side takes about a third of the time and of the memory.",
    laptop=run,
    minutes=1.0,
)
