"""Starting: look at a model and data, and write the plan file that suits them."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import formats, metrics, techniques
from ._calls import is_call
from ._tables import is_block, is_numeric, open_table, spelled
from .bundle import run_samples
from .comparison import fit
from .data import Array, Data
from .errors import InvalidData, InvalidPlan
from .images import SUFFIXES, Preprocessing, is_images
from .model import Model, Signature
from .plan import reached
from .prepare import open_model, reference
from .reading import LABELS, read_for
from .server import Hosted
from .target import Target
from .technique import Needs

KINDS = (".npz", ".npy", ".parquet", ".csv")
LABELLED = (*LABELS, "target", "class", "outcome", "response")
SHIELDED = re.compile(r"(^|_)(sex|gender|race|ethnicity|religion|nationality|disability|age_?group)($|_)", re.I)
TOGETHER = re.compile(
    r"(^|_)(id|(group|user|customer|patient|subject|session|speaker|document|photo|video)s?(_?id)?)$", re.I
)
FEW, SEVERAL = 256, 20  # samples that are run; values of a column that are told one by one
RARE = 0.1  # share of a class under which accuracy says little of it


@dataclass(frozen=True)
class Seen:
    """What was found of a model and its data.

    Attributes:
        model: As it is spelled in the plan, likewise `data`, `train` and `weights`.
        opened: The model.
        size: Of its files, in bytes; 0 where it has none.
        samples: How many there are.
        label: The label column, where strop does not find it by itself.
        classes: How many, where labels are classes.
        metric: Of quality, that fits outputs and labels.
        unsaid: Columns that may be the label, where none was taken for it.
        slices: Columns of a few values each; `protected`: those among them that name people's attributes.
        groups: Columns that may say which samples belong together.
        preprocessing: Of images, as far as the model tells it.
        trains: Whether something would be made of train data.
    """

    model: str
    data: str
    opened: Model
    size: int
    samples: int
    label: str | None
    classes: int
    metric: str
    unsaid: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    trains: bool = False
    train: str | None = None
    weights: str | None = None
    trust_pickle: bool = False


def look(
    model: str | None,
    data: str | None,
    *,
    label: str | None = None,
    weights: Path | None = None,
    trust_pickle: bool = False,
) -> Seen:
    """Open a model, read the data, and run a few samples.

    Args:
        model: As for `optimize`; None for the only one that lies in the working directory, likewise `data`.
        label: The label column, where that can't be guessed.

    Raises:
        InvalidPlan: None is given, and there is not exactly one.
        StropError: The model or the data can't be used; the message says why.
    """
    model = model or _only(_models(), "a model", "MODEL")
    data = data or _only(_samples(), "data", "--data DATA")
    with tempfile.TemporaryDirectory(prefix="strop-") as scratch:
        folder = Path(scratch)
        opened = open_model(model, folder / "original", weights, trust_pickle)
        every = techniques.all_techniques()
        on_the_way = reached(opened.format, every)
        trains = any(step.needs & Needs.TRAINING and step.accepts & on_the_way for step in every)
        seen = Seen(
            model, data, opened, opened.size, 0, label, 0, "", trains=trains, train=_train(data),
            weights=str(weights) if weights else None, trust_pickle=trust_pickle,
        )  # fmt: skip
        if is_images(data):
            return _images(seen, Path(data))
        columns, inputs = _columns(data, opened.signature)
        seen = replace(seen, label=label or _label(columns, inputs))
        given = read_for(opened.signature, data, label=seen.label, storage=folder / "stored")
        if not columns:
            inputs = {tensor.name for tensor in opened.signature.inputs}
            columns = {name: array for name, array in given.inputs.items() if name not in inputs and array.ndim == 1}
            if given.labels is None and (found := _label(columns, inputs)):
                seen = replace(seen, label=found)
                given = read_for(opened.signature, data, label=found, storage=folder / "labelled")
        if given.labels is None:
            seen = replace(seen, unsaid=tuple(name for name in columns if name not in inputs))
        return _divided(_judged(seen, given, folder), columns, inputs)


def _only(found: Iterable[Path], what: str, flag: str) -> str:
    names = sorted(map(str, found))
    if len(names) == 1:
        return names[0]
    seen = f"holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "holds none"
    raise InvalidPlan(f"{what} must be given, or be the only one here, and the working directory {seen}. Give {flag}.")


def _models() -> list[Path]:
    here = (path for path in Path().iterdir() if path.suffix and path.suffix not in KINDS and path.is_file())
    return [path for path in here if any(known.detects(path) for known in formats.all_formats())]


def _samples() -> list[Path]:
    found = [path for path in Path().iterdir() if path.suffix.lower() in KINDS or is_images(path)]
    return [path for path in found if not path.name.lower().startswith("train")] if len(found) > 1 else found


def _train(data: str) -> str | None:
    """Train data that lie beside the others, by their name."""
    path = Path(data)
    if is_call(data) or path.suffix.lower() not in KINDS:
        return None
    beside = sorted(one for one in path.parent.glob(f"train*{path.suffix}") if one != path)
    return str(beside[0]) if len(beside) == 1 else None


def _images(seen: Seen, folder: Path) -> Seen:
    """Of a folder of images, no image is decoded: folders in it are classes."""
    tensor = seen.opened.signature.inputs[0]
    sides = [side for side in tensor.shape[1:] if isinstance(side, int)]
    channels = next((side for side in sides if side in (1, 3)), 3)
    size = [side for side in sides if side not in (1, 3)]
    crop = size[0] if len(set(size)) == 1 else (size[0], size[1]) if len(size) == 2 else None
    resize = round(crop * 256 / 224) if isinstance(crop, int) else crop  # as is usual
    cropped = None if resize == crop else crop
    plan = Preprocessing(resize=resize, crop=cropped, colors="gray" if channels == 1 else "rgb")
    settled = plan.settled(folder, seen.opened.signature)
    files = [file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES]
    ends_in_classes = any(len(output.shape) == 2 for output in seen.opened.signature.visible_outputs)
    metric = "accuracy" if settled.classes else "agreement" if ends_in_classes else "fidelity"
    return replace(
        seen, samples=len(files), classes=len(settled.classes), metric=metric, preprocessing=plan,
        slices=("class",) if settled.classes else (),
    )  # fmt: skip


def _columns(data: str, signature: Signature) -> tuple[dict[str, Array], set[str]]:
    """The single values of a table's first rows, by column, of those that miss none; and the columns that go into the
    model. Both are empty where the data are no table."""
    path = Path(data)
    if is_call(data) or path.suffix.lower() not in (".parquet", ".csv") or not path.is_file():
        return {}, set()
    try:
        table = open_table(path)
        first = next(table.batches(table.names))
    except Exception as error:  # of pyarrow, which a damaged file may lead anywhere
        raise InvalidData(f"{path} can't be read as a table: {error}. It may be cut short: write it again.") from error
    types = dict(zip(table.names, table.types, strict=True))
    tensors = signature.inputs
    known = [name for tensor in tensors for name in (spelled(tensor.columns, types) or (tensor.name,))]
    inputs = set(known) & set(types) or {name for name, kind in types.items() if is_numeric(kind) or is_block(kind)}
    columns = zip(first.schema.names, first.columns, strict=True)
    return {
        name: np.asarray(column.to_numpy(zero_copy_only=False)) for name, column in columns
        if not column.null_count and not is_block(types[name])
    }, inputs  # fmt: skip


def _label(columns: Mapping[str, Array], inputs: set[str]) -> str | None:
    """The label column of a table: by its name, or as the only one that the model does not take."""
    if found := next((name for word in LABELLED for name in columns if name.lower() == word), None):
        return None if found in LABELS else found
    others = [name for name in columns if name not in inputs and not TOGETHER.search(name)]
    return others[0] if len(others) == 1 else None


def _judged(seen: Seen, given: Data, folder: Path) -> Seen:
    """With the metric that fits what the model answers to a few samples."""
    if not len(given):
        raise InvalidData(f"The data hold no samples: {seen.data} is empty. Give at least 10.")
    few = given.take(np.linspace(0, len(given) - 1, min(FEW, len(given))).astype(np.int64))
    hosted = Hosted(seen.opened, reference(seen.opened.format)[1], Target())
    ready, _ = fit(few, hosted, hosted, folder / "data")
    outputs = run_samples(ready, folder / "data", folder / "outputs.npz")
    labels = Data.load(folder / "data").label_array()
    metric = metrics.default_quality(outputs, labels)
    if metric == "fidelity" and (scores := next(iter(outputs.values()))).ndim == 2 and scores.shape[1] > 1:
        metric = "agreement" if np.allclose(scores.sum(1), 1, atol=1e-3) else metric  # probabilities of classes
    metrics.find(metric).check(outputs, labels)
    every = given.label_array()
    counts = np.zeros(0) if every is None else np.unique(every, return_counts=True)[1]
    classes = len(counts) if metric == "accuracy" else 0
    if classes == 2 and counts.min() < RARE * counts.sum():
        with contextlib.suppress(InvalidData):  # of scores that are no probability of one class
            metrics.find("average_precision").check(outputs, labels)
            metric = "average_precision"
    return replace(
        seen, opened=replace(seen.opened, signature=ready.model.signature), samples=len(given), classes=classes,
        metric=metric,
    )  # fmt: skip


def _divided(seen: Seen, columns: Mapping[str, Array], inputs: set[str]) -> Seen:
    """With the columns that samples may be told apart by, or held together."""
    slices, protected, groups = [], [], []
    for name, values in columns.items():
        if name == seen.label or name in LABELS or not (name not in inputs or SHIELDED.search(name)):
            continue
        distinct = _distinct(values)
        if 2 <= distinct <= SEVERAL:
            slices.append(name)
            protected += [name] if SHIELDED.search(name) else []
        elif distinct > SEVERAL and 2 * distinct <= len(values) and TOGETHER.search(name):
            groups.append(name)
    return replace(seen, slices=tuple(slices), protected=tuple(protected), groups=tuple(groups))


def _distinct(values: Array) -> int:
    return len(set(values.tolist())) if values.dtype.kind in "biufUSO" else 0
