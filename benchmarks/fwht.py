"""The Walsh-Hadamard transform against a butterfly of additions and against the dense matrix.

One thread, float32. The butterfly is the usual vectorised one: log2(n) passes of sums and differences. The product with
the matrix of ``scipy.linalg.hadamard`` is timed where the matrix fits comfortably. Run ``python benchmarks/fwht.py``.
"""

from __future__ import annotations

import scipy.linalg
import torch
from _harness import Row, compare, publish
from torch import Tensor

from lodim.linalg import fwht

SIZES = ((1, 12), (256, 10), (1, 16), (1, 18), (1, 20), (1, 22))  # batch, log2 n
LARGEST_MATRIX = 12


def butterfly(x: Tensor) -> Tensor:
    shape, half = x.shape, 1
    while half < shape[-1]:
        pairs = x.reshape(*shape[:-1], -1, 2, half)
        even, odd = pairs.unbind(-2)
        x = torch.cat((even + odd, even - odd), -1)
        half *= 2
    return x.reshape(shape)


def one_size(batch: int, log_n: int) -> list[Row]:
    x = torch.randn(batch, 1 << log_n, generator=torch.Generator().manual_seed(0))
    assert (fwht(x) - butterfly(x)).norm() < 1e-5 * butterfly(x).norm()
    cases = {"butterfly": lambda: butterfly(x), "lodim fwht": lambda: fwht(x)}
    if log_n <= LARGEST_MATRIX:
        h = torch.tensor(scipy.linalg.hadamard(1 << log_n), dtype=torch.float32)
        cases["dense matrix"] = lambda: x @ h
    return compare(cases, reference="butterfly", group=f"batch {batch}, n = 2^{log_n}", rounds=31)


def main() -> None:
    torch.set_num_threads(1)
    rows = [row for size in SIZES for row in one_size(*size)]
    publish("fwht", rows, packages=("torch", "scipy"))


if __name__ == "__main__":
    main()
