"""Patches by number: nearest centres, row by row, and back; what is lost is told."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from lodim.generative import PatchCodebook
from lodim.validation import ConvergenceWarning


def pictures(n=60, shape=(4, 6), top=256, seed=0):
    return np.random.default_rng(seed).integers(0, top, (n, *shape)).astype(float)


def few_patches(n=60, shape=(4, 6), kinds=5, seed=0):
    """Images put together from so many patches of 2 x 2, and which patch is where."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(kinds, 2, 2))
    which = rng.integers(kinds, size=(n, shape[0] // 2, shape[1] // 2))
    return patches[which].swapaxes(2, 3).reshape(n, *shape), which.reshape(n, -1)


def test_images_of_as_many_patches_as_codes_come_back_whole():
    X, which = few_patches()
    codebook = PatchCodebook((4, 6), n_codes=5).fit(X)
    codes = codebook.encode(X)
    np.testing.assert_allclose(codebook.decode(codes), X, atol=1e-6)
    assert codebook.error_ < 1e-6
    assert codebook.length == 6
    assert len(set(zip(codes.ravel(), which.ravel()))) == 5  # a renaming of the patches, in their order


def test_patches_go_row_by_row_and_hold_all_channels():
    codebook = PatchCodebook((2, 4, 6), n_codes=7).fit(pictures(shape=(2, 4, 6)))
    centres, x = codebook.quantizer.codebook.double().numpy(), pictures(1, (2, 4, 6), seed=1)
    codes = codebook.encode(x)[0]
    for t, (row, column) in enumerate((r, c) for r in (0, 2) for c in (0, 2, 4)):
        patch = x[0, :, row : row + 2, column : column + 2]
        assert codes[t] == np.square(centres - patch.ravel()).sum(1).argmin()
        shown = codebook.decode(codes[None])[0, :, row : row + 2, column : column + 2]
        np.testing.assert_allclose(shown.ravel(), centres[codes[t]], rtol=1e-6)


def test_coding_twice_is_coding_once_and_codes_come_back():
    X = pictures()
    codebook = PatchCodebook((4, 6), n_codes=20).fit(X)
    codes = codebook.encode(X)
    assert np.array_equal(codebook.encode(codebook.decode(codes)), codes)
    assert codebook.error(codebook.decode(codes)) == 0


def test_more_codes_lose_less_and_the_loss_is_the_root_mean_square():
    X = pictures()
    books = [PatchCodebook((4, 6), n_codes=m).fit(X) for m in (1, 4, 16, 64)]
    errors = [book.error_ for book in books]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] == pytest.approx(
        float(np.sqrt(np.square(books[2].decode(books[2].encode(X)) - X).mean())), rel=1e-5
    )
    patches = X.reshape(-1, 2, 2, 3, 2).swapaxes(2, 3)  # of one code: the spread of patches about their mean
    assert errors[0] == pytest.approx(float(patches.std((0, 1, 2)).__pow__(2).mean() ** 0.5), rel=1e-5)
    assert books[2].error(pictures(seed=1)) > errors[2]  # those it was not fitted to


def test_arrays_give_arrays_and_tensors_tensors_of_any_kind():
    X = pictures(top=9)
    codebook = PatchCodebook(shape=(4, 6), patch=2, n_codes=8).fit(X=X, random_state=3)
    codes = codebook.encode(X)
    readonly = X.copy()
    readonly.setflags(write=False)
    for same in (
        X.astype(np.uint8),
        X.astype(np.float16),
        np.asfortranarray(X),
        readonly,
        X[::-1][::-1],
        X.tolist(),
    ):
        assert np.array_equal(codebook.encode(same), codes)
    for dtype in (torch.float64, torch.float16, torch.int64):
        found = codebook.encode(torch.from_numpy(X).to(dtype))
        assert isinstance(found, torch.Tensor)
        assert np.array_equal(found.numpy(), codes)
    assert codes.dtype == np.int64
    assert isinstance(codebook.decode(torch.from_numpy(codes)), torch.Tensor)
    assert np.array_equal(codebook.decode(codes.astype(np.uint8)), codebook.decode(codes))
    assert codebook.decode(codebook.encode(X[:0])).shape == (0, 4, 6)
    assert math.isnan(codebook.error(X[:0]))
    again = PatchCodebook((4, 6), n_codes=np.int64(8)).fit(X, 3)
    assert np.array_equal(again.encode(X), codes)


def test_copies_and_states_code_alike():
    X = pictures()
    codebook = PatchCodebook((4, 6), n_codes=9).fit(X)
    fresh = PatchCodebook((4, 6), n_codes=9)
    fresh.quantizer.load_state_dict(codebook.quantizer.state_dict())
    for other in (fresh, copy.deepcopy(codebook), pickle.loads(pickle.dumps(codebook))):
        assert np.array_equal(other.encode(X), codebook.encode(X))
        assert other.error_ == codebook.error_
    assert not any(p.requires_grad for p in codebook.quantizer.parameters())


def test_fewer_distinct_patches_than_codes_are_said():
    with pytest.warns(ConvergenceWarning):
        codebook = PatchCodebook((4, 6), n_codes=8).fit(few_patches(kinds=3)[0])
    assert codebook.error_ < 1e-6


def test_what_does_not_fit_is_said():
    codebook = PatchCodebook((4, 6), n_codes=4)
    for use in (codebook.encode, codebook.error):
        with pytest.raises(ValueError, match="fit it to images"):
            use(pictures())
    with pytest.raises(ValueError, match="fit it to images"):
        codebook.decode(np.zeros((1, 6), dtype=int))
    assert math.isnan(codebook.error_)
    bad = pictures()
    bad[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="infinity in 1 of 60"):
        codebook.fit(bad)
    with pytest.raises(ValueError, match="masked"):
        codebook.fit(np.ma.masked_invalid(bad))
    with pytest.raises(ValueError, match="at least as many vectors"):
        PatchCodebook((4, 6)).fit(pictures(2))
    with pytest.raises(ValueError, match=r"shape \(n, 4, 6\)"):
        codebook.fit(pictures(shape=(6, 4)))
    with pytest.raises(ValueError, match="do not divide"):
        PatchCodebook((4, 6), patch=4)
    with pytest.raises(ValueError, match="height, width"):
        PatchCodebook((4,))
    codebook.fit(pictures())
    for codes in (np.full((1, 6), 4), np.full((1, 6), -1), np.full((1, 6), 0.5)):
        with pytest.raises(ValueError, match="whole numbers from 0 to 3"):
            codebook.decode(codes)
    with pytest.raises(ValueError, match=r"shape \(n, 6\)"):
        codebook.decode(np.zeros((2, 5)))
