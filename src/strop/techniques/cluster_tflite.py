"""Shared weights in .tflite: each takes the nearest of a few values, which packs well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .._lazy import lazy
from ..errors import NotApplicable
from ..formats._tflite_writing import append, content
from ..formats.tflite import Graph, TfliteFormat, has_weights
from ..model import TFLITE, Format, Model
from ..settings import choice
from ..target import Target
from ..technique import Context, Phase, Technique
from . import _tflite as tool
from ._magnitude import SMALL

if TYPE_CHECKING:
    from sklearn import cluster
else:
    cluster = lazy("sklearn.cluster")

BINS = 4096
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClusterWeights(Technique):
    """Let the weights of a layer share a few values (Han et al. 2016, "Deep Compression", section 3).

    The file stays as large, and as fast: what shrinks is what a download takes (`size.compressed`), also of what is
    quantized afterwards, since few values make few integers. It is tried where the goal asks for that.

    Attributes:
        clusters: Values a layer, by k-means, with 0 among them where weights are 0.
    """

    clusters: int = choice(32, 16, 64, 128)

    accepts: ClassVar[frozenset[Format]] = frozenset({TFLITE})
    phase: ClassVar[Phase] = Phase.SHRINK
    gains: ClassVar[frozenset[str] | None] = frozenset({"size.compressed"})

    def requires(self, model: Model, target: Target) -> None:
        if not _weights(tool.check(model)):
            raise NotApplicable(f"has no weight of {SMALL} numbers or more")

    def apply(self, model: Model, context: Context) -> Model:
        live = tool.flatbuffers.read_model_from_bytearray(bytearray(model.path.read_bytes()))
        for buffer in _weights(tool.check(model)):
            weights = np.array(live.buffers[buffer].data, np.uint8).view("<f4")
            live.buffers[buffer].data = clustered(weights, self.clusters, context.seed).view(np.uint8)
        path = context.folder / "model.tflite"
        path.write_bytes(content(live))
        append(path, model.path)
        return TfliteFormat().open(path)


def clustered(weights: Array, clusters: int, seed: int = 0) -> Array:
    """Every weight as the center of its cluster, float32; k-means of a fine histogram, however many there are.

    Args:
        weights: [n], float32.
        clusters: At the most.
    """
    exact = weights.astype(np.float64)
    if not np.isfinite(exact).all() or np.ptp(exact) == 0:
        return weights
    counts, edges = np.histogram(exact, BINS)
    sums, _ = np.histogram(exact, edges, weights=exact)
    filled = counts > 0
    means = sums[filled] / counts[filled]
    found = cluster.KMeans(min(clusters, len(means)), n_init=3, random_state=seed)
    centers = np.sort(found.fit(means[:, None], sample_weight=counts[filled]).cluster_centers_[:, 0])
    if (exact == 0).any():  # pruned ones stay so
        centers[np.abs(centers).argmin()] = 0.0
    made: Array = centers[np.searchsorted((centers[1:] + centers[:-1]) / 2, exact)].astype(np.float32)
    return made


def _weights(graph: Graph) -> list[int]:
    """The buffers of the weights that are large."""
    operators = [operator for operator in graph.operators if has_weights(graph, operator)]
    found = {value.buffer: value for operator in operators for value in graph.parents(operator)}
    return [at for at, v in found.items() if v.stored and v.dtype == "float32" and v.cells >= SMALL and not v.sparse]
