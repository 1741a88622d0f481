"""The kernel by blocks against all positions at once, and against its arc cosines and square roots alone.

One thread, 2,048 rows of 8 numbers, filters 2, 2, 2, the NTK. "stacked" is the recursion as it is written, on a tensor
(positions, 2048, 2048) and with the same torch functions. "arccos and sqrt" takes these two alone, of as many entries
as the recursion does, in blocks of the same size, by NumPy and by torch, whose arccos is two to three times as fast.
Memory is the peak that torch's profiler of allocations sees, and the array of values. Run
``python benchmarks/wide_cnn_kernels.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from _harness import Target, compare, publish
from torch.profiler import ProfilerActivity, profile

from lodim.representation import HierarchicalKernel

N, FILTERS = 2048, (2, 2, 2)


def stacked(X: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    x = torch.from_numpy(X).to(dtype).reshape(len(X), -1, FILTERS[0]).swapaxes(0, 1)
    x = x / x.norm(dim=2, keepdim=True)
    K = theta = x @ x.mT
    for fan in (*FILTERS[1:], 1):
        t = K.clamp(-1, 1)
        k0 = (math.pi - torch.acos(t)) / math.pi
        K = torch.sqrt(1 - t * t) / math.pi + k0 * t
        theta = k0 * theta + K
        K, theta = (part.reshape(-1, fan, *part.shape[1:]).mean(1) for part in (K, theta))
    return theta[0].numpy()


def bare(dtype: torch.dtype, with_numpy: bool, side: int = 256) -> Callable[[], None]:
    """Of 7 cosines a pair: 4 patches, 2 pairs of them, the row; on and below the diagonal blocks."""
    blocks = N // side
    t = 2 * torch.rand(side, side, dtype=dtype, generator=torch.Generator().manual_seed(0)) - 1
    parts = [t, t.abs(), torch.empty_like(t), torch.empty_like(t)]
    arccos, sqrt = (np.arccos, np.sqrt) if with_numpy else (torch.acos, torch.sqrt)
    t, positive, angle, root = [part.numpy() for part in parts] if with_numpy else parts

    def run() -> None:
        for _ in range(7 * blocks * (blocks + 1) // 2):
            arccos(t, out=angle)
            sqrt(positive, out=root)

    return run


def peak(run: Callable[[], np.ndarray]) -> int:
    """Bytes, the values counted in both."""
    held = most = 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        values = run()
    for event in told.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    owned = values.flags.owndata  # NumPy's own memory, which torch does not see
    return most + values.nbytes * owned


def main() -> None:
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(N, 8))
    rows, notes, memory = [], [], {}
    for dtype in ("float64", "float32"):
        kind, kernel = getattr(torch, dtype), HierarchicalKernel(FILTERS, dtype=dtype)
        off = np.abs(kernel(X) - stacked(X, kind))
        np.fill_diagonal(off, 0)  # where the recursion as written is off by the root of rounding
        assert off.max() < (1e-6 if dtype == "float64" else 2e-2), off.max()
        cases = {
            "stacked": lambda kind=kind: stacked(X, kind),
            "arccos and sqrt, NumPy": bare(kind, True),
            "arccos and sqrt, torch": bare(kind, False),
            "HierarchicalKernel": lambda kernel=kernel: kernel(X),
        }
        found = compare(
            cases,
            reference="stacked",
            targets={"HierarchicalKernel": Target(0.5)},
            group=f"2,048 rows, filters 2 2 2, {dtype}",
            rounds=5,
            warmup=1,
        )
        rows += found
        for base in found[1:3]:
            alone = found[3].median_s / base.median_s
            said = f"aimed at 1.5: {'met' if alone <= 1.5 else 'MISSED'}"
            notes.append(f"{dtype}: {alone:.2f} times {base.name} alone (medians; {said}).")
        memory[dtype] = {name: peak(cases[name]) for name in ("stacked", "HierarchicalKernel")}
        share = memory[dtype]["stacked"] / memory[dtype]["HierarchicalKernel"]
        notes.append(
            f"{dtype}: memory of stacked over ours {share:.1f} (aimed at 4: {'met' if share >= 4 else 'MISSED'})."
        )
    publish("wide_cnn_kernels", rows, packages=("numpy", "torch"), notes=notes, extra={"peak_bytes": memory})
    print("\n".join(notes))


if __name__ == "__main__":
    main()
