"""The lattice by which marginals are checked: energies, enumeration, colours, and its sampler against its law."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from lodim.discrete.marginalization_models import (
    IsingModel,
    MarginalizationModel,
    molecule_log_f,
    molecule_report,
    molecule_scores,
    molecule_units,
    moses_smiles,
)
from lodim.discrete.vocabulary import Vocabulary


def test_every_edge_counts_twice():
    lattice = IsingModel((3, 4), sigma=0.3, bias=0.1)
    x = torch.randint(2, (5, 12), generator=torch.Generator().manual_seed(0))
    s = (2 * x - 1).reshape(5, 3, 4).double()
    edges = (s * s.roll(1, 1) + s * s.roll(1, 2)).sum((1, 2))  # each once
    expected = 2 * 0.3 * edges + 0.1 * s.sum((1, 2))
    np.testing.assert_allclose(lattice.log_f(x.numpy()), expected.numpy(), rtol=1e-12)
    torch.testing.assert_close(lattice.log_f(x), expected.float())


def test_log_z_of_the_papers_small_lattice():
    log_z, probs = IsingModel((4, 4), sigma=0.1, bias=0.2).exact()
    assert log_z == pytest.approx(12.598503, abs=1e-6)
    assert probs.sum() == pytest.approx(1)


def test_without_coupling_spins_are_independent():
    lattice = IsingModel((3, 3), sigma=0, bias=0.4)
    up, down = np.log([1 / (1 + np.exp(-0.8)), 1 / (1 + np.exp(0.8))])
    found = lattice.exact_log_marginal([[1, 0, 1] + [None] * 6, [None] * 9])
    np.testing.assert_allclose(found, [2 * up + down, 0], atol=1e-12)


def test_a_row_of_two_or_one_is_counted_once():
    assert IsingModel((1, 1), 1.0, 0.5).log_f([[1]]) == pytest.approx(0.5)
    assert IsingModel((1, 2), 1.0, 0.5).log_f([[1, 1]]) == pytest.approx(2 + 1)  # one edge, twice


@pytest.mark.parametrize("shape", [*itertools.product((1, 2, 3, 4, 5), (3, 4))])
def test_neighbours_have_different_colours(shape):
    lattice = IsingModel(shape)
    same = lattice.colours[:, None] == lattice.colours
    assert not (lattice.adjacency * same).any()


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (1, 5)])
def test_gibbs_samples_have_the_law(shape):
    """On an odd torus two colours would move neighbours together, and miss it."""
    lattice = IsingModel(shape, sigma=0.15, bias=0.1)
    x = lattice.gibbs_samples(20_000, 30, random_state=0)
    _, probs = lattice.exact()
    number = (x * 2 ** torch.arange(lattice.n_sites - 1, -1, -1)).sum(1)
    counts = np.bincount(number.numpy(), minlength=len(probs))
    common = 20_000 * probs >= 5
    seen = np.append(counts[common], counts[~common].sum())
    expected = 20_000 * np.append(probs[common], probs[~common].sum())
    keep = expected > 0
    assert stats.chisquare(seen[keep], expected[keep]).pvalue > 1e-3


def test_what_is_too_large_or_no_lattice_is_refused():
    large = IsingModel((5, 5))
    for ask in (large.exact, lambda: large.exact_log_marginal([[None] * 25])):
        with pytest.raises(ValueError, match=r"25 sites have too many states.*gibbs_samples"):
            ask()
    assert large.gibbs_samples(3, 2, random_state=0).shape == (3, 25)
    with pytest.raises(ValueError, match=r"shape \(n, 16\)"):
        IsingModel().log_f([[1, 0]])
    with pytest.raises(ValueError, match="complete configurations"):
        IsingModel((1, 2)).log_f([[1, None]])
    with pytest.raises(ValueError, match="rows and columns"):
        IsingModel((4,))


def test_smiles_are_cut_into_atoms_and_asked_by_their_beginning():
    smiles = ["CCl", "c1cc[nH]c1", "CBr"]
    vocabulary = Vocabulary.of(smiles, units=molecule_units(smiles))
    assert vocabulary.decode(vocabulary.encode(smiles)) == smiles
    assert vocabulary.length == 7
    model = MarginalizationModel(vocabulary, random_state=0)
    selfies = ["[C][Cl]", "[C][=C][Branch1]"]
    assert Vocabulary.of(selfies, units=molecule_units(selfies)).length == 3
    found = model.log_prob(["CCl", [None, "Cl"]])  # a beginning, and a place in the middle
    np.testing.assert_allclose(found, -np.log(vocabulary.sizes) * np.array([2, 1]), rtol=1e-6)


def test_moses_is_named_where_it_is_missing(monkeypatch):
    from lodim.discrete.marginalization_models import molecules

    def absent(name):
        raise molecules.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(molecules.metadata, "distribution", absent)
    with pytest.raises(ModuleNotFoundError, match="wheel molsets"):
        moses_smiles("test", 3)
    with pytest.raises(ValueError, match="split must be one of"):
        moses_smiles("valid")


def test_molecules_are_judged():
    pytest.importorskip("rdkit")
    report = molecule_report(["CCO", "OCC", "C1CC", "c1ccccc1", ""], train=["CCO"])
    assert (report.valid, report.unique, report.novel, report.n) == (3 / 5, 2 / 3, 1 / 2, 5)


def test_an_energy_of_molecules_asks_for_a_property_and_forbids_what_is_none():
    pytest.importorskip("rdkit")
    smiles = ["CCO", "c1ccccc1", "C1CC"]
    logp = molecule_scores(smiles)
    assert logp[1] > logp[0]  # benzene dissolves in oil, ethanol in water
    assert np.isnan(logp).tolist() == [False, False, True]
    assert (molecule_scores(smiles[:2], "qed") < 1).all()
    assert (molecule_scores(smiles[:2], "sa") >= 1).all()
    vocabulary = Vocabulary.of(smiles)
    log_f = molecule_log_f(vocabulary, target=2.0, tau=0.5)(vocabulary.encode(smiles))
    np.testing.assert_allclose(log_f[:2], -2 * (logp[:2] - 2.0) ** 2)
    assert log_f[2] == -np.inf
