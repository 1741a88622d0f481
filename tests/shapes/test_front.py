"""The front: every kind of source within its bytes, judged as what is written, and files that others read."""

import io

import numpy as np
import pytest
import torch

from lodim.metrics import psnr
from lodim.shapes import fit, render_image, sample_surface, to_unit_cube, unpack_field

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("manifold3d")
Image = pytest.importorskip("PIL.Image")

FEW = {"max_bytes": 1500, "steps": 40, "random_state": 0}


def smooth(h=24, w=32, channels=3, dtype=np.uint8):
    y, x = np.mgrid[:h, :w] / w
    waves = 0.5 + 0.4 * np.stack([np.sin(3 * x + i + 2 * y) for i in range(channels)], -1)
    return np.rint(waves * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def image_fit():
    return fit(smooth(), **FEW)


@pytest.fixture(scope="module")
def box_fit():
    return fit(trimesh.creation.box((4, 2, 2)), max_bytes=1000, steps=1000, random_state=0)


@pytest.mark.trains
def test_an_image_is_judged_as_what_its_bytes_say(image_fit):
    assert image_fit.n_bytes <= 1500
    drawn = render_image(unpack_field(image_fit.data), (24, 32))
    np.testing.assert_array_equal(image_fit.image, np.rint(drawn * 255).astype(np.uint8))
    expected = psnr(image_fit.image.reshape(24, -1) / 255, smooth().reshape(24, -1) / 255)
    assert image_fit.quality.psnr == pytest.approx(expected, abs=1e-9)


@pytest.mark.trains
def test_codecs_stand_beside_it_in_no_more_bytes(image_fit):
    frame = image_fit.to_frame()
    assert list(frame.index) == ["simplex field", "JPEG", "WebP"]
    assert list(frame) == ["n_bytes", "psnr"]
    assert (frame["n_bytes"] <= image_fit.n_bytes).all()
    held = io.BytesIO()
    Image.fromarray(smooth()).save(held, "JPEG", quality=95, optimize=True)
    shown = np.asarray(Image.open(held))
    best = psnr(shown.reshape(24, -1) / 255, smooth().reshape(24, -1) / 255)
    # more bytes than that quality needs: it is what comes out
    assert frame.loc["JPEG", "psnr"] == pytest.approx(best) or len(held.getvalue()) > image_fit.n_bytes


def odd_images(folder):
    """Yield images as people have them, with the pixels that are meant."""
    grey, colour = smooth(channels=1)[..., 0], smooth()
    palette = Image.fromarray(colour).quantize(16)
    yield "palette.png", palette, np.asarray(palette.convert("RGB"))
    deep = smooth(channels=1, dtype=np.uint16)[..., 0]
    yield "deep.png", Image.fromarray(deep), deep
    yield "bits.png", Image.fromarray(grey > 127), np.where(grey > 127, 255, 0)
    clear = np.dstack([colour, grey])
    yield "clear.png", Image.fromarray(clear), clear
    two = Image.fromarray(np.dstack([grey, grey[::-1]]))
    yield "two.png", two, np.asarray(two.convert("RGBA"))
    cmyk = Image.fromarray(colour).convert("CMYK")
    yield "cmyk.tif", cmyk, np.asarray(cmyk.convert("RGB"))
    lab = Image.fromarray(colour).convert("HSV")
    yield "hsv.tif", Image.merge("LAB", lab.split()), None
    # one grey value is clear
    hole = Image.fromarray(grey)
    hole.info["transparency"] = int(grey[0, 0])
    yield "hole.png", hole, np.dstack([grey, grey, grey, np.where(grey == grey[0, 0], 0, 255)])


@pytest.mark.trains
def test_files_of_every_mode_are_read_as_they_look(tmp_path):
    for name, image, pixels in odd_images(tmp_path):
        image.save(tmp_path / name)
        if pixels is None:
            assert fit(image, max_bytes=1500, steps=1).image.shape == (24, 32, 3)
            continue
        for source in (tmp_path / name, str(tmp_path / name), image):
            found = fit(source, max_bytes=1500, steps=1, random_state=0)
            assert found.image.shape == pixels.shape, name
            assert found.image.dtype == (np.uint16 if name == "deep.png" else np.uint8)
            again = fit(pixels.astype(found.image.dtype), max_bytes=1500, steps=1, random_state=0)
            np.testing.assert_array_equal(found.image, again.image, err_msg=name)
        assert ("JPEG" in found.to_frame().index) == (pixels.shape[2:] != (4,))
        found.save(tmp_path / "out.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), found.image)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    image = Image.fromarray(smooth())
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    assert fit(tmp_path / "turned.png", max_bytes=1500, steps=1).image.shape == (32, 24, 3)


def test_of_a_film_the_first_picture_is_taken_with_a_warning(tmp_path):
    frames = [Image.fromarray(smooth()), Image.fromarray(smooth()[::-1])]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"film.gif has 2 frames; the first") as told:
        fit(tmp_path / "film.gif", max_bytes=1500, steps=1)
    assert told[0].filename == __file__


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (smooth() > 127, "RGB"),
        (smooth(channels=1) > 127, "1"),
        (smooth(dtype=np.uint16), "RGB"),
        (smooth(channels=1, dtype=np.uint16), "I;16"),
        (smooth(channels=1, dtype=np.uint16)[..., 0].astype(">u2"), "I;16"),
        ((smooth() / 255).astype(np.float16), "RGB"),
    ],
)
def test_pixels_of_every_dtype_are_saved_and_drawn(pixels, mode, tmp_path):
    found = fit(pixels, max_bytes=1500, steps=1, random_state=0)
    assert (found.image.shape, found.image.dtype) == (pixels.shape, pixels.dtype)
    found.save(tmp_path / "a.png")
    back = Image.open(tmp_path / "a.png")
    assert back.mode == mode
    top, most = (np.iinfo(x).max if x.kind == "u" else 1 for x in (pixels.dtype, np.asarray(back).dtype))
    shown = found.image.reshape(np.asarray(back).shape).astype(float) / top
    assert np.abs(np.asarray(back) / most - shown).max() <= 0.5001 / 255
    (drawn,) = found.plot().images
    # not stretched to what the image happens to hold
    assert drawn.get_clim() == (0, 1 if drawn.get_array().dtype.kind == "b" else most)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 200), (7, 1, 1)])
def test_the_smallest_images_go_in(shape):
    found = fit(np.full(shape, 100, np.uint8), max_bytes=1500, steps=5, random_state=0)
    assert found.image.shape == shape


@pytest.mark.trains
def test_polygons_are_a_file_within_its_bytes(box_fit, tmp_path):
    assert box_fit.n_bytes <= 1000
    box_fit.save(tmp_path / "box.ply")
    assert (tmp_path / "box.ply").read_bytes() == box_fit.data
    mesh = trimesh.load(tmp_path / "box.ply")
    assert mesh.is_watertight
    # in the coordinates of the source
    assert mesh.volume == pytest.approx(16, rel=0.1)
    assert box_fit.quality.iou > 0.9


@pytest.mark.trains
def test_an_obj_has_a_material_a_convex(box_fit, tmp_path):
    box_fit.save(tmp_path / "box.obj")
    used = {
        line.split()[1]
        for line in (tmp_path / "box.obj").read_text().splitlines()
        if line.startswith("usemtl")
    }
    assert used == {f"part_{k}" for k in np.unique(box_fit.parts)}
    made = (tmp_path / "box.mtl").read_text()
    assert all(f"newmtl {name}\n" in made for name in used)
    back = trimesh.load(tmp_path / "box.obj", force="mesh")
    assert back.volume == pytest.approx(box_fit.mesh.volume, rel=1e-5)


@pytest.mark.trains
def test_a_mesh_that_is_smaller_stands_beside_it_as_it_is(box_fit):
    assert list(box_fit.to_frame().index)[1] == "the mesh itself"
    assert box_fit.qualities[1].iou == 1
    assert "psnr" not in box_fit.to_frame()


@pytest.mark.trains
def test_convexes_go_until_the_bytes_fit():
    mesh = trimesh.creation.icosphere(3)
    many, few = (fit(mesh, max_bytes=n, steps=60, random_state=0) for n in (4000, 1500))
    assert few.n_bytes <= 1500 < many.n_bytes <= 4000
    assert len(few.convexes.polytopes) < len(many.convexes.polytopes)
    assert [one.name for one in few.qualities][1:] == ["decimated"]
    assert few.qualities[1].n_bytes <= few.n_bytes


@pytest.mark.trains
def test_a_shape_as_a_field_and_points_as_both():
    block = trimesh.creation.box((4, 2, 2))
    points, normals = sample_surface(block, 800, 0)
    oriented = np.hstack([points, normals])
    for source, options in (
        (block, {"method": "field", "steps": 60}),
        (oriented, {"method": "field", "steps": 60}),
        (points, {"max_bytes": 1000, "steps": 1000}),
    ):
        found = fit(source, **{"max_bytes": 6000, "random_state": 0, **options})
        assert found.kind == ("mesh" if source is block else "points")
        assert found.n_bytes <= options.get("max_bytes", 6000)
        assert found.mesh.volume == pytest.approx(16, rel=0.15)
        assert np.isnan(found.quality.iou) == (found.kind == "points")
        if found.method == "field":
            assert unpack_field(found.data)(torch.full((1, 3), 0.5)) < 0


@pytest.mark.trains
def test_a_cloud_of_trimesh_is_points():
    ball = trimesh.creation.icosphere(2)
    cloud = trimesh.PointCloud(ball.vertices)
    few, same = (fit(x, 6000, steps=9, random_state=0) for x in (cloud, np.array(ball.vertices)))
    assert few.kind == same.kind == "points"
    assert few.data == same.data


@pytest.mark.trains
def test_the_same_seed_gives_the_same_bytes_and_leaves_the_global_streams_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    first = fit(smooth(), **FEW)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    second = fit(smooth(), **FEW)
    assert first.data == second.data
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.trains
def test_a_ply_is_a_mesh_or_points_by_what_is_in_it(tmp_path):
    ball = trimesh.creation.icosphere(2)
    trimesh.PointCloud(ball.vertices).export(tmp_path / "points.ply")
    ball.export(tmp_path / "mesh.ply")
    kinds = [fit(tmp_path / name, max_bytes=6000, steps=9).kind for name in ("points.ply", "mesh.ply")]
    assert kinds == ["points", "mesh"]


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ("none.png", {}, FileNotFoundError, "no file none.png"),
        ("none.ply", {}, FileNotFoundError, "no file none.ply"),
        ("none.docx", {}, ValueError, "no file of a known kind: images end in .png"),
        (lambda x: x, {}, TypeError, "fit_sdf or fit_shape"),
        (np.zeros((9, 9, 3), np.uint8), {"method": "polygons"}, ValueError, 'an image takes method="field"'),
        (np.zeros((9, 9, 3), np.uint8), {"max_bytes": 100}, ValueError, "too little for any field"),
        (np.full((9, 9, 3), 7.0), {}, ValueError, r"must lie in \[0, 1\]"),
        (np.zeros((0, 9, 3)), {}, ValueError, "image must have shape"),
        (np.zeros((40, 3)), {}, ValueError, "all one"),
        (np.zeros((40, 3), int), {}, ValueError, "all one"),
        (None, {}, TypeError, "array of numbers, got NoneType"),
        (trimesh.creation.box(), {"kind": "image"}, TypeError, "array of numbers, got Trimesh"),
        (trimesh.creation.box(), {"max_bytes": 100, "steps": 9}, ValueError, "one convex alone takes"),
        (trimesh.creation.box(), {"kind": "images"}, ValueError, "kind"),
        (trimesh.Trimesh(), {}, ValueError, "empty"),
    ],
)
def test_what_is_wrong_is_said(source, options, error, words):
    with pytest.raises(error, match=words):
        fit(source, **options)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n123")
    with pytest.raises(ValueError, match=r"cut.png cannot be read as an image"):
        fit(tmp_path / "cut.png")
    for data in (b"", b"no array"):
        (tmp_path / "cut.npy").write_bytes(data)
        with pytest.raises(ValueError, match=r"cut.npy cannot be read as NPY"):
            fit(tmp_path / "cut.npy")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        fit(tmp_path / "folder.png")


def test_what_a_deadline_cut_short_says_so():
    for source, options in ((smooth(), {}), (trimesh.creation.box(), {"method": "field"})):
        found = fit(source, max_bytes=3000, deadline=0.0, random_state=0, **options)
        assert "stopped by deadline" in str(found).splitlines()[0]


def test_a_mesh_of_a_class_of_ones_own_is_a_mesh():
    class Own(trimesh.Trimesh):
        pass

    box = trimesh.creation.box((4, 2, 2))
    assert fit(Own(box.vertices, box.faces), 3000, steps=1, random_state=0).kind == "mesh"


@pytest.mark.trains
def test_endings_that_do_not_go_with_it_are_refused(image_fit, box_fit, tmp_path):
    with pytest.raises(ValueError, match=r"\.png"):
        image_fit.save(tmp_path / "a.obj")
    with pytest.raises(ValueError, match=r"\.obj"):
        box_fit.save(tmp_path / "a.field")
    image_fit.save(tmp_path / "a.field")
    assert (tmp_path / "a.field").read_bytes() == image_fit.data
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.trains
def test_pictures(image_fit, box_fit):
    assert image_fit.plot().get_title().startswith("simplex field")
    assert box_fit.plot().name == "3d"
    for found, other in ((image_fit, box_fit), (box_fit, image_fit)):
        with pytest.raises(ValueError, match="a shape needs axes made with projection='3d'"):
            found.plot(other.plot())


@pytest.mark.trains
def test_a_mesh_in_other_units_is_judged_in_the_cube():
    ball = trimesh.creation.icosphere(2)
    large = ball.copy()
    large.apply_scale(1000)
    a, b = (fit(m, max_bytes=6000, steps=30, random_state=0).quality for m in (ball, large))
    assert a.chamfer == pytest.approx(b.chamfer, rel=1e-3)
    assert to_unit_cube(large)[1].scale == pytest.approx(0.45 / 1000, rel=1e-6)
