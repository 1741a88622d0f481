"""What retrieval costs: a training step with its neighbours looked up, and the search itself beside scikit-learn's.

A step is the loss, its gradient and Adam's update, of 128 images of 3 x 32 x 32 and a small U-Net with cross-attention;
the candidates differ in where the context comes from: made beforehand, or looked up by the ids of precomputed
neighbours among 60,000 items. The lookup is timed alone too. The search is exact: 10,000 queries among 60,000 vectors
of 64 numbers, 20 neighbours each, by angle, one thread.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from _harness import Target, compare, publish
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from lodim.generative import RetrievalDiffusion
from lodim.neighbors import NeighborIndex
from lodim.nets import SmallUNet
from lodim.randomness import build_seeded

ITEMS, QUERIES, DIM, K = 60_000, 10_000, 64, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    E, Q = (rng.standard_normal((n, DIM), dtype=np.float32) for n in (ITEMS, QUERIES))
    index = NeighborIndex().fit(E)
    net = build_seeded(lambda: SmallUNet(3, 16, (1, 2), (), context_dim=DIM), 0)
    model = RetrievalDiffusion(net, (3, 32, 32), index, sigma_data=0.3)
    x = torch.rand(128, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    table = torch.from_numpy(index.kneighbors(Q[:128], K)[1])
    context = {"context": model.retrieval.vectors(table[:, :4])}
    optimiser = torch.optim.Adam(model.parameters())

    def step(**given: object) -> None:
        optimiser.zero_grad()
        model.loss(x, **given).backward()
        optimiser.step()

    rows = compare(
        {
            "context made beforehand": lambda: step(cond=context),
            "context looked up": lambda: step(neighbours=table),
            "the lookup alone": lambda: model.retrieval.vectors(table[:, :4]),
        },
        reference="context made beforehand",
        targets={"the lookup alone": Target(0.05)},
        group="training step, 128 images of 3 x 32 x 32, U-Net of 16 channels, 60,000 items",
        rounds=options.rounds,
        warmup=1,
    )
    with threadpool_limits(1):
        brute = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(E)
        flat, blocked = (NeighborIndex(backend=backend).fit(E) for backend in ("faiss", "blocked"))
        rows += compare(
            {
                "scikit-learn, brute": lambda: brute.kneighbors(Q),
                "lodim, faiss": lambda: flat.kneighbors(Q, K),
                "lodim, blocked": lambda: blocked.kneighbors(Q, K),
            },
            reference="scikit-learn, brute",
            targets={"lodim, faiss": Target(0.5)},
            group="search, 10,000 queries x 60,000 items x 64 numbers, 20 neighbours",
            rounds=max(3, options.rounds // 3),
            warmup=1,
        )
    publish("retrieval_diffusion", rows, packages=("torch", "faiss-cpu", "scikit-learn"))


if __name__ == "__main__":
    main()
