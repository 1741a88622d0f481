"""What joining the slices costs beside the network: volumes of 256 x 256 pixels, one thread.

A level of the solver calls the network twice for every slice (predictor and corrector) and joins the volume once, by an
iteration of ADMM with five steps of conjugate gradients. The network is a U-Net of 32 channels, small for this size:
a larger one makes the share smaller. Measured are tomography from eight views and Cartesian MRI. Beside them the
projection of one slice, against scikit-image's ``radon`` of the same angles, where that is installed. Run
``python benchmarks/diffusion_mbir.py``.
"""

from __future__ import annotations

import argparse
from importlib import util

import torch
from _harness import Row, Target, compare, publish

from lodim.datasets import ellipse_volume
from lodim.generative import CartesianMRI, Denoiser, DiffusionMBIR, Operator, ParallelBeam, cartesian_mask
from lodim.generative.diffusion_mbir.solver import _JointUpdate
from lodim.nets import SmallUNet
from lodim.randomness import build_seeded


def level(operator: Operator, x: torch.Tensor, base: int, rounds: int, group: str) -> list[Row]:
    """Time a level's two parts."""
    denoiser = Denoiser(build_seeded(lambda: SmallUNet(1, base), 0)).eval()
    solver = DiffusionMBIR(denoiser, operator, slice_batch=len(x))
    joint = _JointUpdate(solver, operator.forward(x))

    @torch.no_grad()
    def network() -> None:
        for _ in range(2):
            solver._answer(x, 0.3)

    return compare(
        {"network": network, "joint update": lambda: joint(x)}, reference="network",
        targets={"joint update": Target(0.1)}, group=group, rounds=rounds, warmup=1,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--base", type=int, default=32, help="channels of the U-Net")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, rounds = options.size, options.rounds
    x = torch.from_numpy(ellipse_volume(options.slices, size, random_state=0))
    beam = ParallelBeam(size, n_views=8)
    mri = CartesianMRI(cartesian_mask((size, size), "uniform1d", 2, 0.15, random_state=0))
    said = f"{options.slices} slices of {size} x {size}, U-Net of {options.base} channels"
    rows = level(beam, x, options.base, rounds, f"a level, 8 views, {said}")
    rows += level(mri, x, options.base, rounds, f"a level, half the frequencies, {said}")
    if util.find_spec("skimage"):
        from skimage.transform import radon

        one, image = x[:1], x[0, 0].numpy()
        rows += compare(
            {
                "scikit-image": lambda: radon(image, beam.angles, circle=False),
                "lodim": lambda: beam.forward(one),
            },
            reference="scikit-image",
            targets={"lodim": Target(0.3)},
            group=f"8 views of one slice, {size} x {size}",
            rounds=3 * rounds,
        )
    publish("diffusion_mbir", rows, packages=("torch", "scikit-image"))


if __name__ == "__main__":
    main()
