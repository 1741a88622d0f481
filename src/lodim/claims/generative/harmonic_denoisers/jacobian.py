"""A bias-free denoiser is its Jacobian times its input, at every noise level; the Jacobian need not be symmetric.

The paper (Section 3) reads a denoiser as shrinkage in the eigenbasis of its Jacobian, which is symmetric for the best
denoiser. Here a net of one level and 20 channels, trained for 500 steps on 200 digits of 14 x 14, is looked at at a new
digit with noise of 0.2. The full scale is two levels of 64 channels on 20,000 digits of 32 x 32.

Ranges: homogeneity and f(y) = J(y) y are identities, up to single precision (a prototype: 9e-7 and 1.2e-6); its
asymmetry of .49 and trace of 54 of 196 are one net's, and checked beside the verdict.

Source: Z. Kadkhodaie and others, arXiv 2310.02557.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from lodim.claims.generative.harmonic_denoisers.memorization import digits
from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.generative import jacobian_basis, train_denoiser
from lodim.nets import BiasFreeUNet
from lodim.randomness import build_seeded, derive_seed, torch_generator


def run(
    seed: int,
    progress: Progress,
    *,
    n: int = 200,
    width: int = 20,
    depth: int = 1,
    steps: int = 500,
    batch_size: int = 64,
    pooled: bool = True,
    device: str = "cpu",
) -> Findings:
    """Train one net and decompose its Jacobian at one new digit."""
    images = digits(2 * n + 1000, pooled).to(device)
    net = build_seeded(lambda: BiasFreeUNet(1, width, depth), derive_seed(seed, "start")).to(device)
    train_denoiser(net, images[:n], steps=steps, batch_size=batch_size, lr=2e-3, random_state=seed)
    progress(0.7, "Jacobian")
    x = images[n]
    y = x + 0.2 * torch.randn(x.shape, generator=torch_generator(derive_seed(seed, "noise"))).to(x)
    basis, svd = jacobian_basis(net, y), jacobian_basis(net, y, symmetric=False)
    with torch.no_grad():
        once, thrice = net.denoise(torch.stack([y, 3 * y])).double().cpu().numpy()
    product = np.einsum("k,k,kchw->chw", svd.values, svd.coefficients(y), svd.left_vectors)
    error = float(np.linalg.norm(product - once) / np.linalg.norm(once))
    checks = (
        check_between("largest |f(3y) - 3 f(y)|", float(np.abs(thrice - 3 * once).max()), 0.0, 1e-5),
        check_between("|J y - f(y)| over |f(y)|", error, 0.0, 1e-4),
        check_between("asymmetry |J - J'| / |J|", basis.asymmetry, 0.3, 0.7, essential=False),
        check_between(
            "trace of the Jacobian over the pixels", basis.trace / y.numel(), 0.18, 0.38, essential=False
        ),
    )
    figures = {
        "eigenvalues": basis.values[:10].tolist(),
        "singular values": svd.values[:10].tolist(),
        "asymmetry": basis.asymmetry,
        "trace": basis.trace,
        "pixels": y.numel(),
    }
    return Findings(checks, figures)


CLAIM = Claim(
    name="harmonic-denoisers/jacobian",
    arxiv="2310.02557",
    statement="A bias-free denoiser of digits is homogeneous and equals its Jacobian times its input.",
    laptop=run,
    full=partial(run, n=20_000, width=64, depth=2, steps=20_000, batch_size=512, pooled=False, device="cuda"),
    needs=("mnist",),
    full_needs=("gpu",),
    minutes=1,
)
