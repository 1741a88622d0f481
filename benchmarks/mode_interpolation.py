"""What watching costs a sampler: points of the plane with a small net, and images of 28 x 28 with a U-Net; one thread.

The same samples are drawn with and without the detector's callback, in turn: 4,096 points in 40 ancestral steps, and 16
images in 6. The window holds all steps, which is the most it can cost; beside it stands what keeping the whole way
costs, the plain alternative. Memory: numbers held by the detector a sample's number, whatever the steps.
"""

from __future__ import annotations

import argparse

import torch
from _harness import Target, compare, publish

from lodim.generative import Diffusion, HallucinationDetector
from lodim.nets import SmallUNet, TimeMLP
from lodim.randomness import build_seeded


def held(model: Diffusion, n: int, steps: int) -> float:
    """Numbers the detector holds before the last step, over those of the samples."""
    detector, most = HallucinationDetector((0, steps)), [0]

    def weigh(state) -> None:
        own = sum(s.mean.numel() + s.squares.numel() for s in detector._running or [])
        most[0] = max(most[0], own)

    x = model.sample(n, steps=steps, sampler="ancestral", on_step=[detector.record(), weigh])
    return most[0] / x.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plane = Diffusion(build_seeded(lambda: TimeMLP(2, 128, 3), 0), 2)
    images = Diffusion(build_seeded(lambda: SmallUNet(1, 32, (1, 2, 2), ()), 0), (1, 28, 28))
    rows = []
    cases = (
        ("4,096 points, 40 steps", plane, 4096, 40, options.rounds),
        ("16 images of 28 x 28, 6 steps", images, 16, 6, options.rounds),
    )
    for group, model, n, steps, rounds in cases:
        detector = HallucinationDetector((0, steps))

        def draw(make=None, model=model, n=n, steps=steps) -> None:
            model.sample(n, steps=steps, sampler="ancestral", generator=0, on_step=make() if make else None)

        def keep() -> object:
            way: list[torch.Tensor] = []
            return lambda state: way.append(state.x0_hat.clone())

        rows += compare(
            {
                "sampling": draw,
                "sampling, watched": lambda draw=draw, detector=detector: draw(detector.record),
                "sampling, whole way kept": lambda draw=draw, keep=keep: draw(keep),
            },
            reference="sampling",
            targets={"sampling, watched": Target(1.02)},
            group=group,
            rounds=rounds,
            warmup=1,
        )
    memory = {steps: held(plane, 100, steps) for steps in (10, 100, 1000)}
    note = "numbers held for each number of the samples: " + ", ".join(
        f"{ratio:g} in {steps} steps" for steps, ratio in memory.items()
    )
    print(note)
    publish("mode_interpolation", rows, packages=("torch",), notes=(note,))


if __name__ == "__main__":
    main()
