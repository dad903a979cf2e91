"""Surrogate: a Gaussian process of what was tried, and which untried point promises most by it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

STARTS = 8  # points before the first that is modelled
LOOKED_AT = 5  # points of which the one that lies farthest from all tried ones is a start
FAR = 3.0  # times the best's distance from the median: what is further below it is as bad as that


class Surrogate:
    """Expected improvement (Jones, Schonlau & Welch 1998, section 4.1) over all points of a space.

    The process has a Matérn kernel (nu = 5/2) with a length for each dimension, and noise; both are chosen by marginal
    likelihood (Rasmussen & Williams 2006, sections 4.2.1 and 5.4.1), anew whenever a quarter more is known. Points that
    are still being tried count as what is expected of them (Ginsbourger, Le Riche & Carraro 2010, "kriging believer").

    Args:
        places: [points, dimensions], 0 to 1.
        rng: Of the points to start with.
    """

    def __init__(self, places: Array, rng: np.random.Generator):
        self._places, self._rng = places, rng
        self._kernel: Any = None
        self._known = 0  # values by which the kernel was chosen

    def next(self, values: Mapping[int, float], trying: Sequence[int], among: Array) -> int:
        """The number of the point to try next.

        Args:
            values: By point, what it came to; more is better.
            trying: Points of which nothing is known yet.
            among: Points to choose from.
        """
        if len(values) < STARTS:
            return self._apart([*values, *trying], among)
        tried = np.array(list(values))
        told = np.array([values[number] for number in values])
        middle, best = float(np.median(told)), float(told.max())
        told = np.maximum(told, middle - FAR * (best - middle))
        told = (told - told.mean()) / (told.std() or 1.0)
        process = self._fitted(tried, told)
        if trying:
            believed = process.predict(self._places[list(trying)])
            tried, told = np.concatenate([tried, list(trying)]), np.concatenate([told, believed])
            process = self._process(self._kernel, None).fit(self._places[tried], told)
        return int(among[np.argmax(self._improvement(process, tried, among))])

    def _apart(self, tried: Sequence[int], among: Array) -> int:
        some = self._rng.choice(among, min(LOOKED_AT, len(among)), replace=False)
        if not tried:
            return int(some[0])
        apart = ((self._places[some][:, None] - self._places[list(tried)][None]) ** 2).sum(axis=2).min(axis=1)
        return int(some[np.argmax(apart)])

    def _fitted(self, tried: Array, told: Array) -> Any:
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        if self._kernel is not None and len(tried) < 1.25 * self._known:
            return self._process(self._kernel, None).fit(self._places[tried], told)
        kernel = (
            ConstantKernel(1.0, (0.1, 20)) * Matern(np.ones(self._places.shape[1]), (0.1, 20), nu=2.5)
            + WhiteKernel(0.05, (1e-3, 0.5))
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a length is at its bound: the dimension does not matter
            process = self._process(kernel, "fmin_l_bfgs_b").fit(self._places[tried], told)
        self._kernel, self._known = process.kernel_, len(tried)
        return process

    def _process(self, kernel: Any, optimizer: str | None) -> Any:
        from sklearn.gaussian_process import GaussianProcessRegressor

        return GaussianProcessRegressor(kernel, optimizer=optimizer, random_state=0)

    def _improvement(self, process: Any, tried: Array, among: Array) -> Array:
        """Over the best that is expected where it was tried: what was told has noise."""
        from scipy.stats import norm

        best = float(process.predict(self._places[tried]).max())
        mean, spread = process.predict(self._places[among], return_std=True)
        noise = process.kernel_.k2.noise_level
        spread = np.sqrt(np.maximum(spread**2 - noise, 1e-12))
        by = (mean - best) / spread
        found: Array = spread * (by * norm.cdf(by) + norm.pdf(by))
        return found
