"""Folders of images."""

import numpy as np
import pytest
from PIL import Image

from lodim.datasets import read_images

RNG = np.random.default_rng(0)


def draw(path, size=(6, 4), mode="L", value=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = (
        RNG.integers(0, 256, shape).astype(np.uint8) if value is None else np.full(shape, value, np.uint8)
    )
    Image.fromarray(pixels).save(path)
    return pixels


def test_classes_pixels_and_order(tmp_path):
    pixels = {(c, i): draw(tmp_path / c / f"{i}.png") for c in ("cat", "dog") for i in range(3)}
    data = read_images(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert data.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.image_shape == (1, 4, 6)
    np.testing.assert_allclose(data.X[4], pixels["dog", 1].ravel() / 255, rtol=1e-6)


def test_colour_channels_first(tmp_path):
    pixels = [draw(tmp_path / f"{i}.png", mode="RGB") for i in range(3)]
    data = read_images(tmp_path)
    assert data.y is None
    assert data.image_shape == (3, 4, 6)
    np.testing.assert_allclose(data.X.reshape(-1, 3, 4, 6)[1], pixels[1].transpose(2, 0, 1) / 255, rtol=1e-6)


def test_sizes_and_modes_are_harmonised(tmp_path):
    for i in range(4):
        draw(tmp_path / f"a{i}.png")
    draw(tmp_path / "b.png", size=(12, 8), value=100)
    draw(tmp_path / "c.jpg", mode="RGB")
    data = read_images(tmp_path)
    assert data.image_shape == (3, 4, 6)
    np.testing.assert_allclose(data.X[4], 100 / 255, rtol=1e-6)
    assert any("1 of 6 images were resized to 6 x 4" in note for note in data.notes)
    assert any("5 grey images became RGB" in note for note in data.notes)


def test_large_images_are_shrunk(tmp_path):
    draw(tmp_path / "a.png", size=(200, 100), value=51)
    data = read_images(tmp_path, max_side=20)
    assert data.image_shape == (1, 10, 20)
    np.testing.assert_allclose(data.X, 0.2, rtol=1e-6)
    assert any("1 images were shrunk" in note for note in data.notes)


def test_deep_and_special_modes(tmp_path):
    Image.fromarray(np.full((4, 6), 13107, np.uint16)).save(tmp_path / "a.png")
    Image.new("1", (6, 4), 1).save(tmp_path / "b.png")
    Image.new("LA", (6, 4), (51, 10)).save(tmp_path / "c.png")
    Image.new("P", (6, 4)).save(tmp_path / "d.gif")
    data = read_images(tmp_path)
    grey = data.X.reshape(4, -1)
    np.testing.assert_allclose(grey[0], 0.2, rtol=1e-6)
    np.testing.assert_allclose(grey[1], 1)
    np.testing.assert_allclose(grey[2], 0.2, rtol=1e-6)


def test_folders_of_a_split_are_joined(tmp_path):
    for split in ("train", "test"):
        for c in ("cat", "dog"):
            draw(tmp_path / split / c / "1.png")
            draw(tmp_path / split / c / "2.png")
    data = read_images(tmp_path)
    assert data.classes == ["cat", "dog"]
    assert len(data.X) == 8
    assert "folders test, train were joined" in data.notes[0]


def test_one_sub_folder_is_no_class(tmp_path):
    draw(tmp_path / "all" / "1.png")
    data = read_images(tmp_path)
    assert data.y is None
    assert "one sub-folder only" in data.notes[0]


def test_labels_and_samples(tmp_path):
    for i in range(20):
        draw(tmp_path / f"{i:02d}.png", value=10 * i)
    data = read_images(tmp_path, labels=[10 * i + 0.5 for i in range(20)], max_rows=8)
    assert len(data.X) == 8
    np.testing.assert_allclose(data.X[:, 0] * 255, data.y - 0.5, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match="3 entries but the data have 20 rows"):
        read_images(tmp_path, labels=["a", "b", "c"])


def test_damaged_images_are_left_out_and_said(tmp_path):
    for i in range(3):
        draw(tmp_path / f"{i}.png")
    (tmp_path / "9.png").write_bytes(b"\x89PNG no")
    data = read_images(tmp_path)
    assert len(data.X) == 3
    assert "ATTENTION, 1 images cannot be read" in data.notes[0]
    with pytest.raises(ValueError, match="1 of 4 images cannot be read"):
        read_images(tmp_path, missing="error")


def test_folders_that_will_not_do(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"no images .* found 1 .txt"):
        read_images(tmp_path)
    draw(tmp_path / "1.png")
    draw(tmp_path / "cat" / "1.png")
    with pytest.raises(ValueError, match="1 images beside its sub-folders"):
        read_images(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_images(tmp_path / "nothing")
