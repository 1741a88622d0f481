"""The report: what it must say of models whose truth is known, and what it must not say of models that know nothing."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from lodim.trust import TrustReport, asking, feature_importance, report, robust_accuracy
from lodim.trust.answers import Reasons, _listed
from lodim.trust.trust_report import QUESTIONS

rng = np.random.default_rng(0)
N = 400
X = pd.DataFrame(rng.normal(size=(N, 4)), columns=["dose", "age", "noise", "constant"]).assign(constant=1.0)
P_TRUE = 1 / (1 + np.exp(-(2 * X["dose"] - X["age"])))
Y = (rng.random(N) < P_TRUE).astype(int)
QUICK = {"eps": 0.5, "random_state": 0}  # one size of change
PLACES = np.repeat(["north", "south", "east", "west"], N // 4)


REASONS = Reasons(
    names=("a", "b"), scores=np.ones(2), low=np.ones(2), high=np.ones(2), drives=np.ones(2, bool),
    helps=np.ones(2, bool), n_rows=9, k=1, removed=0.1, removed_random=0.2, k_overlap=2,
    stability=1.0, chance_stability=0.5, fidelity=None, guess=0.0, rules=(), unit="column", not_checked="",
)  # fmt: skip


def true_law(rows):
    return 1 / (1 + np.exp(-(2 * rows["dose"] - rows["age"]))).to_numpy()


@pytest.fixture(scope="module")
def answer():
    return report(true_law, X, Y, environments=PLACES, random_state=0)


@pytest.fixture(autouse=True)
def few_queries(answer, monkeypatch):
    """But for ``answer`` itself, a search asks 20 times instead of 200: attacks have tests of their own."""
    monkeypatch.setattr(asking, "robust_accuracy", partial(robust_accuracy, n_queries=20))


def test_a_true_law_is_found_to_be_one(answer):
    reasons = dict(zip(answer.reasons.names, answer.reasons.drives))
    assert reasons == {"dose": True, "age": True, "noise": False, "constant": False}
    assert answer.reasons.names[0] == "dose"
    assert answer.reasons.scores[[2, 3]].tolist() == [0, 0]
    assert answer.reasons.helps.tolist() == [True, True, False, False]
    assert answer.reasons.removed > answer.reasons.removed_random
    assert answer.probabilities.p_value > 0.05
    assert answer.probabilities.low == 0
    assert answer.elsewhere.p_same > 0.05
    assert answer.elsewhere.p_meaning > 0.05
    assert answer.elsewhere.worse == answer.elsewhere.better == ()
    assert answer.fooled.attacked[-1].value < answer.fooled.noise[-1]
    assert answer.right.value == np.mean((P_TRUE > 0.5) == Y)


def test_four_environments_certify_what_four_can(answer):
    """1 - 0.05^(1/4), divided by the 0.95 of the bounds that each rests on."""
    assert answer.elsewhere.delta == pytest.approx((1 - 0.05**0.25) / 0.95)


def test_every_section_has_an_interval_and_says_what_was_not_checked(answer):
    reasons, probabilities, elsewhere, fooled = (part for _, _, part in answer.sections)
    assert (reasons.low <= reasons.scores).all()
    assert (reasons.scores <= reasons.high).all()
    shares = (answer.right, reasons.fidelity, *elsewhere.right, *fooled.attacked)
    assert all(s.low <= s.value <= s.high and s.low < s.high for s in shares)
    assert probabilities.low <= probabilities.high
    text = str(answer)
    assert text.count("Not checked:") == 4
    for part in (reasons, probabilities, elsewhere, fooled):
        assert part.not_checked.split()[0] in text
        assert " ".join(part.sentence.split()) in " ".join(text.split())
        assert part.short in answer.verdict


def test_a_model_that_guesses_gets_no_reasons():
    constant = report(lambda rows: np.full(len(rows), 0.7), X, Y, **QUICK)
    assert not constant.reasons.drives.any()
    assert "None of 4 columns drives its answers." in constant.verdict
    assert "do not tell it from always answering the commonest class" in constant.verdict
    assert "do no more than noise" in constant.verdict
    assert constant.elsewhere is None
    assert "no environments were given" in str(constant)


def test_probabilities_that_promise_too_much_are_told():
    sure = report(lambda rows: np.where(true_law(rows) > 0.5, 0.99, 0.01), X, Y, **QUICK)
    assert sure.probabilities.p_value < 0.01
    assert "Its probabilities are not true" in sure.verdict


def test_an_environment_where_it_fails_is_named():
    y = np.where(PLACES == "west", 1 - Y, Y)
    found = report(true_law, X, y, environments=PLACES, **QUICK).elsewhere
    assert found.worse == ("west",)
    assert found.p_same < 0.05
    assert "west" in found.means_otherwise  # and the others differ from a rest that holds it
    assert "'west'" in found.sentence


def test_environments_may_be_a_column_and_small_ones_are_left_out():
    frame = X.assign(place=np.where(np.arange(N) < 5, "tiny", PLACES))
    found = report(true_law, frame, Y, environments="place", **QUICK)
    assert found.elsewhere.names == ("east", "north", "south", "west")
    assert any("tiny" in note for note in found.notes)
    assert "numbers" in found.skipped["fooled"]  # places are none


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"X": X[:10], "y": Y[:10]}, ValueError, "at least 20"),
        ({"environments": "place"}, ValueError, "no column"),
        ({"environments": np.zeros(N)}, ValueError, "at least two values"),
        ({"environments": np.arange(N)}, ValueError, "at least two values"),
        ({"environments": PLACES[:9]}, ValueError, "must match"),
        ({"y": np.where(Y, 5, 0)}, ValueError, "no class of"),
        ({"y": np.where(Y, np.nan, 0.0)}, ValueError, "missing"),
        ({"classes": ["a", "b", "c"]}, ValueError, "classes must name the 2 classes"),
        ({"eps": 0.0}, ValueError, "eps"),
        ({"bounds": (1, 0)}, ValueError, "bounds"),
        ({"bounds": (0, 1)}, ValueError, "outside bounds"),
        ({"model": lambda rows: 5 * np.ones(len(rows))}, ValueError, "probabilities"),
        ({"model": LinearSVC().fit(X, Y)}, TypeError, "CalibratedClassifierCV"),
        ({"model": "forest"}, TypeError, "fitted classifier"),
    ],
)
def test_what_cannot_be_asked_is_refused(change, error, said):
    asked = {"model": true_law, "X": X, "y": Y, "random_state": 0} | change
    with pytest.raises(error, match=said):
        report(asked.pop("model"), asked.pop("X"), asked.pop("y"), **asked)


def test_labels_of_any_kind_and_tables_with_words():
    y = np.where(Y, "ill", "well")
    frame = X.assign(sex=pd.Categorical(np.where(np.arange(N) % 2, "f", "m")))
    encode = make_column_transformer((OneHotEncoder(), ["sex"]), remainder=StandardScaler())
    model = make_pipeline(encode, LogisticRegression()).fit(frame, y)
    found = report(model, frame, y, random_state=0)
    assert found.classes == ("ill", "well")
    assert "class 'well'" in found.probabilities.sentence
    assert set(found.reasons.names) == set(frame.columns)
    assert found.fooled is None


def test_texts_have_probabilities_but_no_columns():
    words = np.array(["good", "bad"])[Y].astype(object) + np.where(np.arange(N) % 3 == 0, " good", "")
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(words, Y)
    found = report(model, words, Y, environments=PLACES, **QUICK)
    assert found.reasons is found.fooled is None
    assert found.probabilities is not None
    assert found.elsewhere is not None


def net(*shape, classes=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes)).double()


def test_modules_are_attacked_by_their_gradients_and_left_as_they_are():
    model = net(4)
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [2, -1, 0, 0]]))
        model[1].bias.zero_()
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = report(model, X.to_numpy(), Y, random_state=0)
    assert "gradients" not in found.fooled.not_checked
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    # a linear model falls where the margin is within eps of the columns' moves: the attack finds just these
    sd = X.std().to_numpy()
    margin = np.abs(2 * X["dose"] - X["age"]).to_numpy()
    right = (P_TRUE > 0.5).to_numpy() == Y
    for size, share in zip(found.fooled.sizes, found.fooled.attacked):
        assert share.n <= N
        exact = (right & (margin > size * (2 * sd[0] + sd[1]))).mean()
        assert share.low <= exact <= share.high


def test_images_are_asked_block_by_block():
    pictures = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (pictures[:, 0, 2, 3] > 0.5).long()
    model = net(1, 8, 8)
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, 2 * 8 + 3] = 8.0
        model[1].bias.copy_(torch.tensor([0.0, -4.0]))
    found = report(model, pictures, y, bounds=(0, 1), **QUICK)
    assert found.reasons.drives.sum() == 1
    assert found.reasons.names[0] == "rows 2–2, columns 3–3"
    assert found.reasons.fidelity is None
    assert found.fooled.unit == "of the range"
    assert any("Every row is answered right" in note for note in found.notes)


def test_ctrl_c_keeps_what_is_known():
    def stop(done, text):
        if done > 0.4:
            raise KeyboardInterrupt

    found = report(true_law, X, Y, random_state=0, progress=stop)
    assert found.probabilities is not None
    assert not found.complete
    assert found.fooled is None
    assert "interrupted" in found.verdict
    found.to_html()


def test_progress_comes_while_columns_are_shuffled_and_never_goes_back():
    said = []
    report(true_law, X[:100], Y[:100], **QUICK, progress=lambda done, text: said.append((done, text)))
    shares, texts = zip(*said, strict=True)
    assert list(shares) == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] <= 1
    assert list(dict.fromkeys(texts)) == list(QUESTIONS.values())
    assert len(set(shares[: texts.count(texts[0])])) > X.shape[1]


def test_the_same_seed_gives_the_same_report_and_another_does_not():
    few = X[:100], Y[:100]
    again = report(true_law, *few, **QUICK)
    drop = lambda found: {k: v for k, v in found.to_dict().items() if k != "seconds"}  # noqa: E731
    first = report(true_law, *few, **QUICK)
    assert drop(again) == drop(first)
    other = report(true_law, *few, eps=0.5, random_state=1)
    assert other.reasons != first.reasons


def test_it_travels_as_json_and_stands_on_a_page(answer, tmp_path):
    import html5lib

    assert TrustReport.from_json(answer.to_json()) == answer
    page = answer.to_html(tmp_path / "trust.html")
    assert (tmp_path / "trust.html").read_text() == page
    html5lib.HTMLParser(strict=True).parse(page)
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert answer._repr_html_().count("<tr>") == len(answer.key_figures())
    assert len(answer.figure().axes) == 4


def test_names_from_the_data_are_escaped():
    frame = X.rename(columns={"dose": "<b>dose</b>"})
    model = lambda rows: 1 / (1 + np.exp(-2 * rows["<b>dose</b>"])).to_numpy()  # noqa: E731
    page = report(model, frame, Y, **QUICK, name="<script>alert(1)</script>").to_html()
    assert "<b>dose" not in page
    assert "<script" not in page


def test_what_the_page_and_the_text_hold(answer):
    text, page = " ".join(str(answer).split()), answer.to_html()
    q = answer.probabilities
    for place in (text, page.replace("\u2060", "").replace("\u00a0", " ")):
        assert answer.reasons.compared in place  # beside random columns and random rankings
        assert "It assumes:" in place
        assert f"{q.n_bins} bins" in place
        assert q.ends in place
    assert f"{q.n_bins} bins, {q.ends}" in answer.verdict
    r = feature_importance(true_law, X, random_state=0)
    assert (answer.reasons.k_overlap, answer.reasons.chance_stability) == (r.k, r.chance_stability)
    little = replace(answer.elsewhere, gap=0.3, brier=0.2)
    assert "that says little, for here it loses no more than 0.2." in little.sentence
    assert "here it loses 0.2." in replace(little, gap=0.1).sentence
    assert "vacuous" in replace(little, vacuous=True).sentence


def test_a_sentence_says_one_and_many():
    one = replace(REASONS, drives=np.array([True, False]), helps=np.array([False, False]))
    assert one.sentence.startswith(
        "1 of 2 columns drives its answers beyond noise: 'a'; it is not seen to help"
    )
    assert "Without the first column" in one.compared
    assert "without a random one" in one.compared
    assert "overlap of the first 2 columns of" in one.compared  # which need not be as many
    none = replace(REASONS, drives=np.zeros(2, bool))
    assert none.sentence.startswith("None of 2 columns is told from")
    two = replace(REASONS, k=2)
    assert "2 of them are seen to help it" in two.sentence
    assert "Without the first 2 columns" in two.compared
    assert _listed(list("abcd")) == "'a', 'b', 'c' and 'd'"
    assert _listed(list("abcdefg")) == "'a', 'b', 'c' and 4 more"


def small(model, rows, y=None, **options):
    y = np.arange(len(rows)) % 2 if y is None else y
    return report(model, rows, y, eps=0.1, random_state=0, **options)


@pytest.mark.parametrize(
    ("dtype", "module"),
    [(torch.bfloat16, torch.bfloat16), (torch.uint8, torch.float32)],
)
@pytest.mark.parametrize("bounds", [None, "range"])
def test_images_of_any_precision(dtype, module, bounds):
    """Their range is that of float64 rows exactly: rounding must not put one outside."""
    values = torch.rand(30, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 3
    pictures = (values * 255 * (dtype == torch.uint8) + values * (dtype != torch.uint8)).to(dtype)
    if bounds:
        bounds = (float(pictures.double().min()), float(pictures.double().max()))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net(1, 3, 3).to(module)

        def forward(self, x):
            return self.inner(x.to(module))

    found = small(Net(), pictures, bounds=bounds)
    assert found.reasons is not None
    assert found.fooled is not None


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_tokens_are_shuffled_but_not_moved(kind):
    torch.manual_seed(0)
    tokens = kind(np.arange(180).reshape(30, 6) % 7)
    found = small(nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(18, 2)), tokens)
    assert len(found.reasons.names) == 6
    assert "whole numbers only" in found.skipped["fooled"]


def test_missing_infinite_and_mixed_entries_of_arrays_leave_the_other_questions():
    first = lambda rows: 1 / (1 + np.exp(-np.asarray(rows)[:, 0].astype(float)))  # noqa: E731
    values = X.to_numpy().copy()[:100]
    values[::7, 1] = np.nan
    missing = small(first, values, Y[:100])
    assert missing.reasons.names[0] == "x0"
    assert "missing" in missing.skipped["fooled"]
    mixed = small(first, np.array([[a, "u"] for a in values[:, 0]], dtype=object), Y[:100])
    assert mixed.reasons.names[0] == "x0"
    values[3, 1] = np.inf
    for rows in (values, pd.DataFrame(values)):
        infinite = small(first, rows, Y[:100])
        assert infinite.probabilities is not None
        assert "infinite" in infinite.skipped["reasons"]


def test_columns_of_one_name_and_bounds_are_refused_before_anything_is_asked():
    asked = []
    for rows, bounds, said in ((X.set_axis(list("aabc"), axis=1), None, "'a'"), (X, (0, 1), "outside")):
        with pytest.raises(ValueError, match=said):
            small(asked.append, rows, Y, bounds=bounds)
    assert asked == []


def test_under_the_null_few_reports_accuse():
    """A true law, environments at random: the two tests together alarm in 5 % of all, and names follow the test."""
    n, alarms, less = 80, 0, 0
    for seed in range(n):
        draw = np.random.default_rng(seed)
        p = draw.random(200)
        y, places = (draw.random(200) < p).astype(int), draw.integers(0, 4, 200)
        rows = asking._read(lambda rows: rows[:, 0], p[:, None], y, places.astype(str), None, None, None, 0)
        if seed < 10:
            found = asking._elsewhere(rows)
            alarms += "not seen" not in found.short
            assert found.p_same < 0.05 or not (found.worse or found.better)
        rows.y = draw.integers(0, 2, 200)  # as often right as either class
        less += asking._like_majority(rows) < 0.05
    assert alarms <= 2
    assert less <= 8  # of intervals beside a fixed rate 13 % did


@pytest.mark.slow
def test_real_models_and_their_null(monkeypatch):
    monkeypatch.setattr(asking, "_ATTACKED", 20)  # of forests, the attack is what takes time
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    seen, new = np.arange(0, 569, 2), np.arange(1, 569, 2)
    shuffled = np.random.default_rng(0).permutation(target[seen])
    data = data.iloc[:, :12]
    fit = lambda y: RandomForestClassifier(20, random_state=0).fit(data.iloc[seen], y)  # noqa: E731
    real, null = (
        report(model, data.iloc[new], target[new], **QUICK) for model in (fit(target[seen]), fit(shuffled))
    )
    assert real.right.low > real.majority
    assert real.reasons.drives.any()
    assert real.reasons.stability > real.reasons.chance_stability
    assert real.reasons.fidelity.low > real.reasons.guess
    assert "more often" not in null.verdict
    assert "more often" in real.verdict
    assert null.probabilities.p_value < 0.05  # sure of nothing that is so
    unlike = np.random.default_rng(1).permutation(target[new])
    assert not report(fit(target[seen]), data.iloc[new], unlike, **QUICK).reasons.helps.any()
