"""How a figure grows with the number of nodes: the exponent of the power of n that fits best."""

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

TOLERANCE: Final = 0.2
"""An exponent of a few measured figures is not exact: up to 1 + TOLERANCE counts as linear."""

CONSTANT_WITHIN: Final = 1.5
"""The factor between the greatest and the least figure that count as the same."""


class Growth(StrEnum):
    """The fastest growth that is allowed."""

    CONSTANT = "constant"
    LINEAR = "linear"


def fitted_exponent(figures: Mapping[int, float]) -> float | None:
    """Return the slope of the least squares of log(figure) over log(n). `figures` by n.

    None: fewer than two sizes have a figure above zero.
    """
    points = [(math.log(n), math.log(figure)) for n, figure in figures.items() if figure > 0]
    if len(points) < 2:
        return None
    mean_x, mean_y = (sum(each) / len(points) for each in zip(*points, strict=True))
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return float(covariance / sum((x - mean_x) ** 2 for x, _ in points))


def is_within(figures: Mapping[int, float], allowed: Growth) -> bool:
    """Return whether the figures grow no faster than is allowed. Too few figures are within it."""
    if allowed is Growth.CONSTANT:
        return max(figures.values(), default=0) <= CONSTANT_WITHIN * min(figures.values(), default=0)
    exponent = fitted_exponent(figures)
    return exponent is None or exponent <= 1 + TOLERANCE
