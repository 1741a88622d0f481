"""Argus3D: sampling with and without the cache, surfaces coarse to fine against a dense grid, 64 tokens against 512.

One thread. The GPT has width 128, four layers and four heads; samples are drawn eight at once, with the same seed, and
are checked to be the same with and without the cache. Surfaces are those of eight solids at 128^3: each value costs
what the decoder of a tokenizer costs, and is the exact one of the solid (an untrained network has no surface, and a
trained one would make this a benchmark of its training); both meshes are checked to have the same faces.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from _harness import Target, compare, publish

from lodim.datasets.solids import FAMILIES, procedural_solids
from lodim.shapes.argus3d import ShapeGPT, ShapeTokenizer
from lodim.shapes.extraction import extract_surface


def prior(n_tokens: int) -> ShapeGPT:
    return ShapeGPT(512, n_tokens, 128, 4, 4, n_classes=8, random_state=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    results, notes = [], []

    for n_tokens in (64, 256):
        gpt = prior(n_tokens)

        def draw(use_cache: bool, gpt: ShapeGPT = gpt) -> torch.Tensor:
            return gpt.sample(8, y=0, use_cache=use_cache, generator=torch.Generator().manual_seed(0))

        assert torch.equal(draw(True), draw(False))
        results += compare(
            {"all tokens again": lambda draw=draw: draw(False), "cache": lambda draw=draw: draw(True)},
            reference="all tokens again", targets={"cache": Target(0.2)}, rounds=rounds, warmup=0,
            group=f"sampling, {n_tokens} tokens",
        )  # fmt: skip

    tokenizer = ShapeTokenizer(32, 12, latent_channels=48, n_blocks=3, unet_width=8, random_state=0)
    solids = procedural_solids(8, random_state=0)
    with torch.no_grad():
        fields = tokenizer.features(torch.zeros(1, tokenizer.n_tokens, dtype=torch.int64))
    asked = [0]

    def mesh(solid: object, coarse: int | None) -> object:
        def values(points: np.ndarray) -> np.ndarray:
            asked[0] += len(points)
            with torch.no_grad():
                tokenizer._logits(fields, torch.from_numpy(points).float()[None])
            return np.where(solid.contains(points), -1.0, 1.0)  # type: ignore[attr-defined]

        return extract_surface(values, 128, coarse=coarse)

    counts = {}
    for coarse in (32, None):
        asked[0] = 0
        found = [mesh(solid, coarse) for solid in solids]
        counts[coarse] = asked[0], [len(m.faces) for m in found]
    same = sum(a == b for a, b in zip(counts[32][1], counts[None][1], strict=True))
    notes.append(
        f"of {len(solids)} surfaces ({', '.join(FAMILIES)}) {same} have as many faces either way; values asked: "
        f"{counts[32][0]:,} coarse to fine, {counts[None][0]:,} dense"
    )
    results += compare(
        {
            "dense": lambda: [mesh(solid, None) for solid in solids[:2]],
            "coarse to fine": lambda: [mesh(solid, 32) for solid in solids[:2]],
        },
        reference="dense", targets={"coarse to fine": Target(1 / 3)}, rounds=min(rounds, 3), warmup=0,
        group="surfaces of 2 solids at 128^3",
    )  # fmt: skip

    source, steps = torch.Generator().manual_seed(0), {}
    for n_tokens in (512, 64):
        gpt, tokens = prior(n_tokens), torch.randint(512, (16, n_tokens), generator=source)
        steps[f"{n_tokens} tokens"] = lambda gpt=gpt, tokens=tokens: gpt.loss(tokens, y=0).backward()
    results += compare(
        steps, reference="512 tokens", targets={"64 tokens": Target(1 / 6)}, rounds=rounds, warmup=1,
        group="a training step of 16 shapes",
    )  # fmt: skip
    print(*notes, sep="\n")
    publish("argus3d", results, packages=("torch", "scikit-image"), notes=notes)


if __name__ == "__main__":
    main()
