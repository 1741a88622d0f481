"""One library's estimators of a data set's dimension, behind a pipe: the other half of ``data_dimension.py``.

Started as ``python peers_data_dimension.py LIBRARY X.npy`` by an interpreter that has the library; every line on its
standard input names a task, every line it writes is ``seconds value`` (the answer's dimension). It imports nothing of
lodim unless asked for lodim, so each library may live in an environment of its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K_MLE, K_MOM, K_TLE = 20, 100, 20
Task = Callable[[np.ndarray], float]


def lodim_tasks() -> dict[str, Task]:
    import torch

    from lodim.dimension.answers import answer
    from lodim.dimension.methods import GRAPH_METHODS, default_k
    from lodim.dimension.pairs import correlation_dimension, fisher_separability
    from lodim.neighbors import NeighborGraph

    torch.set_num_threads(1)

    def some(X: np.ndarray, methods: dict[str, int]) -> float:
        graph = NeighborGraph.from_data(X, max(methods.values()))
        values = []
        for method, k in methods.items():
            if method == "tle":
                values.append(answer(method, graph, X, k).dimension)
            else:
                chosen = GRAPH_METHODS[method]
                values.append(chosen.combine(chosen.contributions(graph.dist, k), k, None))
        return float(values[0])

    def few(X: np.ndarray, method: str) -> float:
        X = X[:2000]
        graph = NeighborGraph.from_data(X, max(1, default_k(method, len(X))))
        return answer(method, graph, X).dimension

    common = {"twonn": 2, "mle": K_MLE, "mom": K_MOM, "mada": 20, "tle": K_TLE, "mind": 21}
    one = {m: (lambda X, m=m, k=k: some(X, {m: k})) for m, k in common.items()}
    return {
        "graph k=100": lambda X: float(NeighborGraph.from_data(X, 100).dist[0, 0]),
        "eight": lambda X: some(X, common | {"twonn_fit": 2, "gride": 4}),
        "six": lambda X: some(X, common),
        **{
            f"{m} of 2,000": (lambda X, m=m: few(X, m))
            for m in ("danco", "ess", "geomle", "abide", "knn", "ph")
        },
        "corrint": lambda X: correlation_dimension(X, NeighborGraph.from_data(X, 20)),
        "fishers": lambda X: fisher_separability(X).dimension,
        **one,
    }


def faiss_tasks() -> dict[str, Task]:
    import faiss

    faiss.omp_set_num_threads(1)

    def flat(X: np.ndarray) -> float:
        rows = X.astype(np.float32)
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
        return float(index.search(rows, 101)[0][0, 1] ** 0.5)

    return {"flat k=100": flat}


def skdim_tasks() -> dict[str, Task]:
    from skdim import id as ids

    def fitted(model: Any, **options: Any) -> Task:
        return lambda X: float(np.ravel(model().fit(X, **options).dimension_)[0])

    tasks = {
        "twonn": fitted(ids.TwoNN),
        "mle": fitted(ids.MLE, n_neighbors=K_MLE),
        "mom": fitted(ids.MOM, n_neighbors=K_MOM),
        "mada": fitted(ids.MADA, n_neighbors=20),
        "tle": fitted(ids.TLE, n_neighbors=K_TLE),
        "mind": fitted(lambda: ids.MiND_ML(k=20, D=30)),
    }
    six = list(tasks.values())
    tasks["six"] = lambda X: max(task(X) for task in six)
    danco = fitted(lambda: ids.DANCo(ver="DANCoFit", D=100))
    tasks["danco of 2,000"] = lambda X: danco(X[:2000])
    return tasks | {"corrint": fitted(ids.CorrInt), "fishers": fitted(ids.FisherS)}


def torchid_tasks() -> dict[str, Task]:
    import torch
    from torchid import estimators as ids

    torch.set_num_threads(1)

    def fitted(model: Any, **options: Any) -> Task:
        return lambda X: float(
            np.ravel(np.asarray(model().fit(torch.from_numpy(X).float(), **options).dimension_))[0]
        )

    tasks = {
        "twonn": fitted(ids.TwoNN),
        "mle": fitted(ids.MLE, n_neighbors=K_MLE),
        "mom": fitted(lambda: ids.MOM(n_neighbors=K_MOM)),
        "mada": fitted(lambda: ids.MADA(n_neighbors=20)),
        "tle": fitted(lambda: ids.TLE(n_neighbors=K_TLE)),
        "mind": fitted(lambda: ids.MiND_ML(k=20, D=30)),
    }
    six = list(tasks.values())
    tasks["six"] = lambda X: max(task(X) for task in six)
    return tasks | {"corrint": fitted(ids.CorrInt), "fishers": fitted(ids.FisherS)}


def dadapy_tasks() -> dict[str, Task]:
    from dadapy import Data

    def distances(X: np.ndarray) -> Any:
        data = Data(X, verbose=False, n_jobs=1)
        data.compute_distances(maxk=100)
        return data

    return {
        "distances k=100": lambda X: float(distances(X).distances[0, 1]),
        "twonn": lambda X: float(distances(X).compute_id_2NN()[0]),
        "gride to 64": lambda X: float(distances(X).return_id_scaling_gride(range_max=64)[0][0]),
    }


LIBRARIES: dict[str, Callable[[], dict[str, Task]]] = {
    "lodim": lodim_tasks,
    "faiss": faiss_tasks,
    "scikit-dimension": skdim_tasks,
    "torchid": torchid_tasks,
    "dadapy": dadapy_tasks,
}


def main() -> None:
    tasks = LIBRARIES[sys.argv[1]]()
    X = np.load(Path(sys.argv[2]))
    pipe = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not mix with the answers
    for line in sys.stdin:
        start = time.perf_counter()
        value = tasks[line.strip()](X)
        print(time.perf_counter() - start, value, file=pipe, flush=True)


if __name__ == "__main__":
    main()
