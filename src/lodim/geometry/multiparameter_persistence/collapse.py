"""Fewer edges, the same homology: edges of a filtered flag complex that another vertex makes superfluous.

An edge e = uv of grade f(e) is *strongly filtration-dominated* if some vertex w is joined to both ends no later than e
enters, and to every common neighbour x of u and v no later than x is joined to both and e is there,

    f(uw), f(vw) <= f(e)     and     f(xw) <= max(f(e), f(xu), f(xv))   for all common neighbours x.

Then at every grade at which e is present its link is a cone with apex w, and leaving e out (and all cliques with it)
changes the complex only up to homotopy, at all grades at once. Nine edges in ten go in typical Rips complexes.

Source of the criterion: Alkema, Govc, Kerber and Lesnick 2022, *On the filtration-domination edge collapses of
bifiltered flag complexes* (their strong domination); edges are tried from the latest to the earliest, in several
passes.
"""

from __future__ import annotations

import numpy as np
import torch

from lodim.geometry.multiparameter_persistence.complexes import FilteredComplex
from lodim.validation import checked


@checked
def collapse_edges(fc: FilteredComplex, *, passes: int = 3) -> FilteredComplex:
    """Return the complex without its dominated edges; only flag complexes have such, others come back as they are.

    It has the same homology in all degrees and at all grades, and the remaining cells keep theirs. Listed cliques are
    dropped: :meth:`FilteredComplex.expand` lists those that remain. A pass that removes nothing ends the search early.
    """
    if not fc.flag:
        return fc
    n, pairs = fc.n_vertices, fc.cells[1]
    values = fc.filtration[n : n + len(pairs)].detach().cpu().double().numpy()
    grade = np.full((n, n, values.shape[1]), np.inf)
    grade[pairs[:, 0], pairs[:, 1]] = grade[pairs[:, 1], pairs[:, 0]] = values
    kept = np.isfinite(values).all(1)
    grade[pairs[~kept, 0], pairs[~kept, 1]] = grade[pairs[~kept, 1], pairs[~kept, 0]] = np.inf
    order = np.lexsort(values.T[::-1])[::-1]
    for _ in range(passes):
        before = kept.sum()
        for e in order[kept[order]]:
            u, v = pairs[e].tolist()
            if _is_dominated(grade, u, v):
                kept[e] = False
                grade[u, v] = grade[v, u] = np.inf
        if kept.sum() == before:
            break
    rows = np.r_[np.arange(n), n + np.flatnonzero(kept)]
    filtration = fc.filtration[torch.from_numpy(rows).to(fc.filtration.device)]
    return FilteredComplex((fc.cells[0], pairs[kept]), filtration, fc.max_dim, True)


def _is_dominated(grade: np.ndarray, u: int, v: int) -> bool:
    joined = np.maximum(grade[u], grade[v])
    common = np.flatnonzero(np.isfinite(joined[:, 0]))
    limit = np.maximum(joined[common], grade[u, v])
    early = np.flatnonzero((joined[common] <= grade[u, v]).all(1))
    if not len(early):
        return False
    reached = (grade[common[early][:, None], common] <= limit).all(2)
    reached[np.arange(len(early)), early] = True  # w itself
    return bool(reached.all(1).any())
