"""A profile in pictures, each drawn where the profile holds what it needs."""

from __future__ import annotations

from collections.abc import Callable

from lodim.pages.picture import Picture
from lodim.profiling import data_pictures, model_pictures
from lodim.profiling.parts import ProfileData

Maker = Callable[[ProfileData], Picture | None]
OF_DATA: tuple[Maker, ...] = (
    data_pictures.across_scales,
    data_pictures.per_estimator,
    data_pictures.per_class,
    data_pictures.per_point,
    data_pictures.spectrum,
    data_pictures.density,
    data_pictures.difficulty,
    data_pictures.topology,
)
OF_MODEL: tuple[Maker, ...] = (
    model_pictures.score_against_d,
    model_pictures.message_length,
    model_pictures.layers,
)


def pictures(p: ProfileData, makers: tuple[Maker, ...] = OF_DATA + OF_MODEL) -> list[Picture]:
    """Return the pictures that a profile has something to show in."""
    return [picture for make in makers if (picture := make(p)) is not None]
