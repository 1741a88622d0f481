"""Answers beside the dimension, as data: density, bits of assumptions, topology, and the layers of a trained model.

Like :mod:`~lodim.profiling.result`, plain numbers only; what was not computed, and what is infinite, is None.
"""

from __future__ import annotations

from dataclasses import dataclass

Number = float | int
Interval = tuple[Number | None, Number | None]


@dataclass(frozen=True)
class Density:
    """Whether a kernel density value would mean anything for these rows in these columns.

    Attributes
    ----------
    regime : str
        At the best bandwidth: ``clt`` (an average over many rows), ``stable`` (an average with heavy tails),
        ``condensed`` (decided by the few nearest rows), or ``undetermined``.
    n_eff : float
        Rows that contribute to a value, median.
    bandwidth : float
        The best one (leave-one-out), in the units of X.
    h_g, h_clt : float or None
        Bandwidths above which a value is an average at all, and one with ordinary sampling errors.
    n : int
        Different rows used.
    """

    regime: str
    n_eff: Number | None
    bandwidth: Number | None
    h_g: Number | None
    h_clt: Number | None
    n: int


@dataclass(frozen=True)
class Difficulty:
    """Bits of assumptions that the labelled rows leave open: an order of magnitude.

    Attributes
    ----------
    error : float
        Test error asked for.
    log10_bits : float or None
        Decimal logarithm of the bits; None where the rows alone suffice.
    interval : pair of float or None
        95 per cent, of ``log10_bits``.
    sufficient : bool
        Whether the rows alone suffice.
    dimension, margin, radius : float
        What the bits are computed from: dimension of the rows, distance between classes, largest norm of a row.
    n : int
        Rows.
    narrower_log10_bits, doubled_log10_bits : float or None
        The same with one dimension less, and with twice as many rows.
    supplied_by : str or None
        Model with the least error on validation rows.
    supplied_error : float or None
        That error.
    supplied_log10_bits : float or None
        Bits for that error, which the model has supplied; None where it made no error.
    """

    error: Number
    log10_bits: Number | None
    interval: Interval | None
    sufficient: bool
    dimension: Number
    margin: Number
    radius: Number
    n: int
    narrower_log10_bits: Number | None = None
    doubled_log10_bits: Number | None = None
    supplied_by: str | None = None
    supplied_error: Number | None = None
    supplied_log10_bits: Number | None = None

    @property
    def supplied_share(self) -> Number | None:
        """Bits supplied, as a share of those asked for."""
        if self.log10_bits is None or self.supplied_log10_bits is None:
            return None
        return float(10.0 ** (self.supplied_log10_bits - self.log10_bits))


@dataclass(frozen=True)
class Topology:
    """Components and loops that noise does not explain, on a subsample.

    Attributes
    ----------
    component_gaps : tuple of float
        Distances at which counted components merge, in units of the usual distance to a near neighbour.
    loop_ratios, loop_p_values : tuple of float
        death / birth of the most persistent loops, and how likely noise has such a one.
    n : int
        Rows of the subsample.
    """

    n_components: int
    n_loops: int
    component_gaps: tuple[Number, ...]
    loop_ratios: tuple[Number, ...]
    loop_p_values: tuple[Number, ...]
    n: int


@dataclass(frozen=True)
class Layer:
    """Dimension of what one layer of the trained model puts out.

    Attributes
    ----------
    name : str
        In the model; ``input`` for the rows themselves.
    kind : str
        Its class.
    width : int
        Numbers it puts out for a row.
    interval : pair of float or None
        95 per cent.
    remark : str
        Why there is no dimension, or that it is only a lower bound.
    """

    name: str
    kind: str
    width: int
    dimension: Number | None
    interval: Interval | None = None
    remark: str = ""
