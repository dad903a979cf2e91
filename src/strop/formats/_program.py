"""Exported programs (.pt2). `torch.export.load` runs code that it finds in one, so what may be in there is listed."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._archives import check_expansion
from .._lazy import lazy
from .._plain import told
from .._quiet import silenced
from ..errors import UnsupportedModel, UntrustedModel

if TYPE_CHECKING:
    import torch
    from torch.export import pt2_archive
else:
    torch = lazy("torch", "torch")
    pt2_archive = lazy("torch.export.pt2_archive", "torch")

_FILES = re.compile(
    r"archive_format|archive_version|byteorder|\.data/[\w.]+|models/\w+\.json|extra/.*|data/sample_inputs/\w+\.pt"
    r"|data/weights/(weight_\d+|\w+_config\.json)|data/constants/(tensor_\d+|\w+_config\.json)"
)
"""What `torch.export.save` writes of graph and tensors. Other objects, and compiled libraries, would be run."""

_WORD = re.compile(r"[\w ./+-]*")
"""A name. Names become Python when a graph is read; without brackets and `=` they call and change nothing."""

_OPERATOR = re.compile(
    r"torch\.ops\.(aten\.(?!(from_file|save)\.)|prims\.|quantized_decomposed\.|torchvision\.)\w+\.\w+"
    r"|torch\.ops\.higher_order\.(associative_scan|cond|map_impl|scan|while_loop|wrap_with_(autocast|set_grad_enabled))"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|not_|or_|pos|pow|rshift|sub|truediv)"
    r"|math\.\w+|torch\.(_sym_\w+|sym_\w+)"
)
"""Arithmetic. Anything in Python that has a name could stand there, and two operators of PyTorch's own write files."""

_SIZES = (
    "Add|And|CeilDiv|CeilToInt|CleanDiv|Equality|Float|FloatPow|FloatTrueDiv|FloorDiv|FloorToInt|GreaterThan|Identity"
    "|IntTrueDiv|Integer|IsNonOverlappingAndDenseIndicator|LShift|LessThan|Max|Min|Mod|ModularIndexing|Mul|Not|Or|Pow"
    "|PowByNatural|PythonMod|RShift|Rational|RoundDecimal|RoundToInt|StrictGreaterThan|StrictLessThan|Symbol|ToFloat"
    "|TruncToFloat|TruncToInt|Unequality|Where"
)
_TEXTS = {
    "target": _OPERATOR,
    "as_operator": _OPERATOR,
    "as_string": re.compile(r"[^\"\\\n\r]*"),
    "expr_str": re.compile(
        rf"((?:{_SIZES})\(|'\w+'|(?:positive|nonnegative|integer|precision)=|[Tt]rue|[Ff]alse|[\d.+-]+|[,) ])*"
    ),
    "guards_code": re.compile(
        r"(L(?=\[)|\['\w+'\]|\[\d+\]|\.(?:size|stride)\(\)|(?:max|min)\(|and|or|not|[\d.]+|[-+*/%<>=!(), ])*"
    ),
}
"""By the key under which they stand, texts that are no names: all but `as_string` are evaluated as Python."""

_NOTES = frozenset({"stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "custom", "from_node"})
"""Where a node came from, for people: never evaluated."""


def read_program(path: Path) -> torch.export.ExportedProgram:
    """Read a program that holds a graph and tensors only.

    Raises:
        UntrustedModel: It holds more, which could run code.
        UnsupportedModel: It can't be read.
    """
    _check_harmless(path)
    try:
        with silenced():
            return torch.export.load(path)
    except Exception as error:  # of a large library, on whatever the file holds
        raise UnsupportedModel(f"{path} can't be read as an exported program: {told(error)}.") from error


def _check_harmless(path: Path) -> None:
    try:
        strange = next(_strange(path), None)
    except pickle.UnpicklingError:
        strange = "pickled sample inputs"
    except (zipfile.BadZipFile, ValueError, AssertionError, RecursionError, RuntimeError, EOFError) as error:
        raise UnsupportedModel(f"{path} is no exported program ({told(error)}). Export it again.") from error
    if strange is not None:
        raise UntrustedModel(
            f"An exported program must hold a graph and tensors only, and {path} holds more ({strange[:100]!r}), which "
            "could run code when it is read. Build the module in a function of your own, and give module:function."
        )


def _strange(path: Path) -> Iterator[str]:
    """What has no place in a program. Of each file that `torch.export.load` opens, what it itself would read is read:
    two readers may see two archives in one file."""
    check_expansion(path)
    with zipfile.ZipFile(path) as archive:
        listed = archive.namelist()
    if len(set(listed)) < len(listed):
        yield "two files of one name"
    reader = pt2_archive.PT2ArchiveReader(str(path))
    names = reader.get_file_names()
    yield from (name for name in (*names, *(n.partition("/")[2] for n in listed)) if not _FILES.fullmatch(name))
    for name in names:
        if name.endswith(".json"):
            yield from _strange_texts("", json.loads(reader.read_bytes(name)))
        elif name.endswith(".pt") and (content := reader.read_bytes(name)):  # empty where no inputs were kept
            torch.load(io.BytesIO(content), weights_only=True)


def _strange_texts(key: str, plain: Any) -> Iterator[str]:
    if isinstance(plain, dict):
        for name, value in plain.items():
            if name == "use_pickle" and value:
                yield "pickled tensors"
            if name == "default_factory_module" or not _WORD.fullmatch(name):
                yield name
            if not (name == "metadata" and _are_notes(value)):
                yield from _strange_texts(name, value)
    elif isinstance(plain, list):
        for value in plain:
            yield from _strange_texts(key, value)
    elif isinstance(plain, str) and not _TEXTS.get(key, _WORD).fullmatch(plain):
        structure = _structure(plain) if key not in _TEXTS else None
        if structure is None:
            yield plain
        yield from _strange_texts("", structure)


def _are_notes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() <= _NOTES and all(isinstance(text, str) for text in value.values())


def _structure(text: str) -> Any:
    """The JSON in a text, where it is some: the structure of inputs and outputs is stored so."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, (dict, list)) else None
