"""EpiGRAF: a step on patches of half the side against one on whole images, of the generator and of both players.

One thread, batches of 8, images of 64 pixels, the networks of the claim ``patches``. The discriminator of whole images
has the same depth. Beside the times stand the bytes that autograd keeps for the generator's gradient, which is what
limits the size of pictures: a third of it is what is aimed at.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from _harness import Target, compare, publish

from lodim.claims.shapes.epigraf.cost import saved_bytes
from lodim.claims.shapes.epigraf.patches import BATCH, PATCH, SIDE, small_model
from lodim.randomness import forked_torch_rng


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    results, notes = [], []
    with forked_torch_rng(0):
        images = torch.rand(BATCH, 3, SIDE, SIDE)
        models = {
            name: small_model(0, "beta", patch_resolution=side).train()
            for name, side in (("whole images", SIDE), ("patches", PATCH))
        }

        def generator_step(name: str) -> None:
            model = models[name]
            model.generator_loss(BATCH).backward(inputs=[*model.generator.parameters()])

        def step(name: str) -> None:
            model = models[name]
            model.discriminator_loss(images).backward(inputs=[*model.discriminator.parameters()])
            generator_step(name)

        for group, one, most in (
            ("the generator's step", generator_step, 0.4),
            ("a step of both", step, 0.35),
        ):
            results += compare(
                {name: lambda one=one, name=name: one(name) for name in models},
                reference="whole images", targets={"patches": Target(most)}, rounds=rounds, warmup=1, group=group,
            )  # fmt: skip
        kept = {name: saved_bytes(partial(model.generator_loss, BATCH)) for name, model in models.items()}
        notes.append(
            f"bytes kept for the generator's gradient: {kept['patches'] / 1e6:.0f} MB on patches, "
            f"{kept['whole images'] / 1e6:.0f} MB on whole images, {kept['whole images'] / kept['patches']:.2f} times"
        )
    print(*notes, sep="\n")
    publish("epigraf", results, packages=("torch",), notes=notes)


if __name__ == "__main__":
    main()
