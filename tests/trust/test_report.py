"""The report: what it must say of models whose truth is known, and what it must not say of models that know nothing."""

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

from lodim.trust import TrustReport, report

rng = np.random.default_rng(0)
N = 400
X = pd.DataFrame(rng.normal(size=(N, 4)), columns=["dose", "age", "noise", "constant"]).assign(constant=1.0)
P_TRUE = 1 / (1 + np.exp(-(2 * X["dose"] - X["age"])))
Y = (rng.random(N) < P_TRUE).astype(int)
PLACES = np.repeat(["north", "south", "east", "west"], N // 4)


def true_law(rows):
    return 1 / (1 + np.exp(-(2 * rows["dose"] - rows["age"]))).to_numpy()


@pytest.fixture(scope="module")
def answer():
    return report(true_law, X, Y, environments=PLACES, random_state=0)


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
    constant = report(lambda rows: np.full(len(rows), 0.7), X, Y, random_state=0)
    assert not constant.reasons.drives.any()
    assert "None of 4 columns drives its answers." in constant.verdict
    assert "do not tell it from always answering the commonest class" in constant.verdict
    assert "do no more than noise" in constant.verdict
    assert constant.elsewhere is None
    assert "no environments were given" in str(constant)


def test_probabilities_that_promise_too_much_are_told():
    sure = report(lambda rows: np.where(true_law(rows) > 0.5, 0.99, 0.01), X, Y, random_state=0)
    assert sure.probabilities.p_value < 0.01
    assert "Its probabilities are not true" in sure.verdict


def test_an_environment_where_it_fails_is_named():
    y = np.where(PLACES == "west", 1 - Y, Y)
    found = report(true_law, X, y, environments=PLACES, random_state=0).elsewhere
    assert found.worse == ("west",)
    assert found.p_same < 0.05
    assert "west" in found.means_otherwise  # and the others differ from a rest that holds it
    assert "'west'" in found.sentence


def test_environments_may_be_a_column_and_small_ones_are_left_out():
    frame = X.assign(place=np.where(np.arange(N) < 5, "tiny", PLACES))
    found = report(true_law, frame, Y, environments="place", random_state=0)
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
    found = report(model, words, Y, environments=PLACES, random_state=0)
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
    found = report(model, pictures, y, bounds=(0, 1), random_state=0)
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


def test_the_same_seed_gives_the_same_report_and_another_does_not(answer):
    again = report(true_law, X, Y, environments=PLACES, random_state=0)
    drop = lambda found: {k: v for k, v in found.to_dict().items() if k != "seconds"}  # noqa: E731
    assert drop(again) == drop(answer)
    assert drop(report(true_law, X, Y, environments=PLACES, random_state=1)) != drop(answer)


def test_it_travels_as_json_and_stands_on_a_page(answer, tmp_path):
    import html5lib

    assert TrustReport.from_json(answer.to_json()) == answer
    page = answer.to_html(tmp_path / "trust.html")
    assert (tmp_path / "trust.html").read_text() == page
    html5lib.HTMLParser(strict=True).parse(page)
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert answer._repr_html_().count("<tr>") == len(answer.key_figures())
    assert len(answer.plot().axes) == 4


def test_names_from_the_data_are_escaped():
    frame = X.rename(columns={"dose": "<b>dose</b>"})
    model = lambda rows: 1 / (1 + np.exp(-2 * rows["<b>dose</b>"])).to_numpy()  # noqa: E731
    page = report(model, frame, Y, random_state=0, name="<script>alert(1)</script>").to_html()
    assert "<b>dose" not in page
    assert "<script" not in page


@pytest.mark.slow
def test_real_models_and_their_null():
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    seen, new = np.arange(0, 569, 2), np.arange(1, 569, 2)
    shuffled = np.random.default_rng(0).permutation(target[seen])
    fit = lambda y: RandomForestClassifier(100, random_state=0).fit(data.iloc[seen], y)  # noqa: E731
    real, null = (
        report(model, data.iloc[new], target[new], random_state=0)
        for model in (fit(target[seen]), fit(shuffled))
    )
    assert real.right.low > real.majority
    assert real.reasons.drives.any()
    assert real.reasons.stability > real.reasons.chance_stability
    assert real.reasons.fidelity.low > real.reasons.guess
    assert null.right.low < null.majority
    assert null.probabilities.p_value < 0.05  # sure of nothing that is so
    unlike = np.random.default_rng(1).permutation(target[new])
    assert not report(fit(target[seen]), data.iloc[new], unlike, random_state=0).reasons.helps.any()
