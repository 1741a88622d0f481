"""Estimators: scikit-learn's own checks, and what those do not ask."""

import copy
import functools
import importlib
import pickle

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.utils.estimator_checks import estimator_checks_generator

from .examples import ESTIMATORS
from .finder import flat, parametrize, refused

TABLES = {thing: tuple(e for e in several if e.tables) for thing, several in ESTIMATORS.items()}
estimators, of_tables = parametrize("example", ESTIMATORS), parametrize("example", TABLES)


# What other parameters may change. The rest is of a class: its tags, its signatures, what it says of input that it does
# not take; or is asked of each example below (pickles, parameters, layouts, NaN).
OF_PARAMETERS = {
    "check_class_weight_classifiers",
    "check_classifiers_classes",
    "check_classifiers_train",
    "check_clusterer_compute_labels_predict",
    "check_clustering",
    "check_decision_proba_consistency",
    "check_dict_unchanged",
    "check_estimators_dtypes",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_non_transformer_estimators_n_iter",
    "check_regressors_int",
    "check_regressors_train",
    "check_transformer_general",
    "check_transformer_n_iter",
    "check_transformer_preserve_dtypes",
}


def scikit_learns():
    """Yield each estimator's example with all checks, and its others with those that parameters may change."""
    for thing, several in TABLES.items():
        for i, example in enumerate(several):
            for estimator, check in estimator_checks_generator(example.model):
                name = check.func.__name__
                marks = [pytest.mark.xfail(reason=example.failing[name])] if name in example.failing else []
                if i == 0 or name in OF_PARAMETERS:
                    yield pytest.param(estimator, check, id=f"{thing.__name__}-{i}-{name}", marks=marks)


@pytest.mark.parametrize(("estimator", "check"), list(scikit_learns()))
@pytest.mark.filterwarnings("ignore:all rows of X are equal")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def ready(example):
    for library in example.needs:
        pytest.importorskip(library)
    return clone(example.model), *example.data()


def learned(model, X):
    """The numbers that fitting gave, and what the model says of some data."""
    found = {name: value for name, value in vars(model).items() if name.endswith("_") and name[0] != "_"}
    for method in ("transform", "predict", "score_samples"):
        if hasattr(model, method):
            found[method] = getattr(model, method)(X)
    return {name: flat(value) for name, value in found.items() if len(flat(value))}


@functools.cache
def fitted(example):
    """The fitted example, its parameters before that, and what it learned."""
    model, X, y = ready(example)
    before = dict(model.get_params(deep=False))
    return model.fit(X, y), before, learned(model, X)


def same(one, other, **tolerance):
    assert one.keys() == other.keys()
    assert one
    for name in one:
        np.testing.assert_allclose(one[name], other[name], err_msg=name, **tolerance)


@estimators
def test_the_same_seed_gives_the_same_answer_to_copies_and_pickles(example):
    X, y = ready(example)[1:]
    model, _, expected = fitted(example)
    same(learned(clone(model).fit(X, y), X), expected, rtol=0)
    same(learned(copy.deepcopy(model), X), expected, rtol=0)
    same(learned(pickle.loads(pickle.dumps(model)), X), expected, rtol=0)


@estimators
def test_parameters_are_kept_as_given(example):
    model, before, _ = fitted(example)
    assert all(value is before[name] for name, value in model.get_params(deep=False).items())


@of_tables
def test_any_layout_of_the_same_numbers_gives_the_same_answer(example):
    model, X, y = ready(example)
    expected = fitted(example)[2]
    wide, fixed = np.repeat(X, 2, axis=1), X.copy()
    fixed.flags.writeable = False
    labels = y.copy()
    labels.flags.writeable = False
    for Z in (wide[:, ::2], np.asfortranarray(X), X[::-1].copy()[::-1], fixed, X.tolist()):
        same(learned(clone(model).fit(Z, labels), X), expected, rtol=1e-9, atol=1e-12)


@of_tables
def test_single_precision_gives_nearly_the_same_answer(example):
    model, X, y = ready(example)
    X = X.astype(np.float32)
    double = learned(model.fit(X.astype(float), y), X.astype(float))
    same(learned(clone(model).fit(X, y), X), double, rtol=1e-4, atol=1e-5)


@of_tables
def test_masked_entries_are_refused_and_a_mask_of_none_is_not(example):
    model, X, y = ready(example)
    expected = fitted(example)[2]
    same(learned(clone(model).fit(np.ma.masked_array(X), y), X), expected, rtol=0)
    with pytest.raises(ValueError, match="masked"):
        clone(model).fit(np.ma.masked_greater(X, 1.0), y)


@of_tables
def test_sparse_matrices_are_taken_or_refused_in_words(example):
    model, X, y = ready(example)
    if not refused(lambda: model.fit(scipy.sparse.csr_array(X), y), "sparse", errors=(TypeError, ValueError)):
        same(learned(model, X), learned(clone(model).fit(X, y), X), rtol=1e-9)


@of_tables
@pytest.mark.parametrize("what", ["NaN", "infinite"])
def test_values_that_are_no_numbers_are_named(example, what):
    model, X, y = ready(example)
    X = X.copy()
    X[7, 1] = np.nan if what == "NaN" else np.inf
    with pytest.raises(ValueError, match=what):
        model.fit(X, y)


@of_tables
@pytest.mark.filterwarnings("ignore")
def test_one_row_is_answered_or_refused_in_words(example):
    model, X, y = ready(example)
    if not refused(lambda: model.fit(X[:1], y[:1]), "row", "sample", "class"):
        assert not any(np.isinf(value).any() for value in learned(model, X).values())


@of_tables
@pytest.mark.filterwarnings("ignore")
def test_a_constant_column_is_no_obstacle(example):
    """It adds no direction: the answer has no NaN that it had not without, or the column is named."""
    model, X, y = ready(example)
    without = fitted(example)[2]
    wide = np.c_[X, np.full(len(X), 7.0)]
    if refused(lambda: model.fit(wide, y), "constant"):
        return
    for name, value in learned(model, wide).items():
        assert np.isnan(value).any() <= np.isnan(without[name]).any(), name


@estimators
def test_transformers_give_frames_if_asked(example):
    model, X, y = ready(example)
    if not hasattr(model, "set_output"):
        return
    importlib.import_module("pandas")
    frame = model.set_output(transform="pandas").fit(X, y).transform(X)
    assert list(frame.columns) == list(model.get_feature_names_out())
    assert len(frame) == len(X)
