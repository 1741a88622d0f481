"""Frames of categories: what is known stays, what depends is filled in, what does not follows its column's shares."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from lodim.discrete import MaskedDiffusion
from lodim.nets import ResidualMLP
from lodim.randomness import build_seeded

N = 400


def survey(n=N, seed=0):
    """Two columns that say the same in other words, one that knows nothing of them, one that is constant."""
    rng = np.random.default_rng(seed)
    child = rng.integers(3, size=n)
    frame = pd.DataFrame(
        {
            "age": pd.Categorical.from_codes(child, ["young", "middle", "old"], ordered=True),
            "decade": np.array([10, 40, 70])[child],
            "coin": rng.random(n) < 0.2,
            "land": "Norway",
        },
        index=[f"p{i}" for i in range(n)],
    )
    return frame.astype({"decade": "Int64", "coin": "boolean"})


@pytest.fixture(scope="module")
def model():
    frame = survey()
    # a tenth of the cells has never been known
    gaps = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.1)
    gaps["age"] = gaps["age"].astype(frame["age"].dtype)
    backbone = build_seeded(lambda: ResidualMLP(4, 4, width=64, depth=1), 0)
    return MaskedDiffusion(backbone=backbone).fit(gaps, steps=300, lr=3e-3)


@pytest.mark.trains
class TestImputation:
    def test_known_cells_stay_and_so_do_types_and_index(self, model):
        frame = survey(50, seed=2)
        gaps = frame.mask(np.random.default_rng(3).random(frame.shape) < 0.4)
        # columns may come in any order; they go as they were in fit
        filled = model.sample(prompt=gaps[gaps.columns[::-1]], generator=0)
        assert not filled.isna().any(axis=None)
        assert filled.where(gaps.notna()).equals(frame.where(gaps.notna()).astype(filled.dtypes))
        assert (filled.dtypes == frame.dtypes).all()
        assert filled.index.equals(frame.index)
        assert (filled["land"] == "Norway").all()

    def test_what_depends_is_filled_in_rightly(self, model):
        frame = survey(200, seed=4)
        for hidden in ("age", "decade"):
            gaps = frame.assign(**{hidden: None})
            filled = model.sample(prompt=gaps, generator=0)
            # a law that is learnt to 1 % of mass: 2 of 200 expected, 8 are four standard errors above
            assert (filled[hidden] != frame[hidden]).sum() <= 8

    def test_the_likeliest_value_needs_no_draws(self, model):
        frame = survey(100, seed=7)
        gaps = frame.assign(age=None, coin=None, land=None)
        state = torch.get_rng_state()
        filled = model.impute(gaps[gaps.columns[::-1]])
        assert (state == torch.get_rng_state()).all()
        assert filled.equals(model.impute(gaps, batch_size=7))
        # what one column says of the other is certain, and a coin that falls so once in five tosses is never likeliest
        assert filled.drop(columns="coin").equals(frame.drop(columns="coin"))
        assert not filled["coin"].any()
        assert model.impute(frame).equals(frame)

    def test_what_is_independent_follows_its_column(self, model):
        share = survey()["coin"].mean()
        tokens = model.vocabulary.encode(survey(200, seed=5).assign(coin=None))
        law = model.log_probs(tokens).exp()[:, 2, 1].detach().numpy()
        # the share among 360 known cells has a standard error of 0.02; so have those of each age's 120, 0.037
        assert abs(law.mean() - share) < 4 * 0.021
        assert np.abs(law - share).max() < 4 * 0.037

    def test_rows_of_which_nothing_is_known_are_drawn(self, model):
        nothing = pd.DataFrame(
            None, index=range(3000), columns=["age", "decade", "coin", "land"], dtype=object
        )
        drawn = model.sample(prompt=nothing, generator=0)
        assert drawn.index.equals(nothing.index)
        ages = np.array([10, 40, 70])[drawn["age"].cat.codes]
        assert (ages == drawn["decade"]).mean() > 0.97
        shares, seen = (
            drawn["decade"].value_counts(normalize=True),
            survey()["decade"].value_counts(normalize=True),
        )
        # the standard error of a third in 400 rows of training is 0.024
        assert (shares - seen).abs().max() < 4 * 0.025

    def test_rows_at_odds_with_the_rest_score_worse(self, model):
        frame = survey(60, seed=6)
        odd = frame.assign(decade=frame["decade"].map({10: 40, 40: 70, 70: 10}))
        scores = [model.log_prob(model.vocabulary.encode(rows)) for rows in (frame, odd)]
        assert (scores[0] > scores[1] + 1).all()

    def test_a_level_never_seen_is_named(self, model):
        with pytest.raises(ValueError, match=r"column 'age' has 'younger' in row 0.*Did you mean 'young'"):
            model.sample(prompt=survey(1).astype({"age": object}).assign(age="younger"))
        with pytest.raises(ValueError, match="must have the 4 columns"):
            model.sample(prompt=survey(1).drop(columns="coin"))


def test_rows_of_which_nothing_is_known_teach_nothing():
    frame = survey(20).astype(object)
    frame.iloc[3:5] = None
    small = {"steps": 2, "batch_size": 32}
    with pytest.warns(UserWarning, match="2 of 20 rows have nothing that is known"):
        with_them = MaskedDiffusion(random_state=0).fit(frame, **small)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without = MaskedDiffusion(random_state=0).fit(frame.dropna(), **small)
    pairs = zip(with_them.parameters(), without.parameters(), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_a_category_that_no_row_has_is_warned_of():
    frame = survey(30)
    frame["age"] = frame["age"].cat.add_categories("ancient")
    model = MaskedDiffusion(random_state=0).fit(frame, steps=1)
    with pytest.warns(UserWarning, match="never seen"):
        model.sample(
            prompt=frame.iloc[:1].assign(age="ancient", decade=None).astype({"age": frame["age"].dtype})
        )
