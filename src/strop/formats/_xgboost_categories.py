"""What an XGBoost file knows of the columns of categories of the frame that it was trained on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..model import Value


def categories(model: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """By column, its categories in the order of their codes.

    XGBoost's Python package counts letters where the file counts bytes, so that what is not ASCII is cut apart (3.2,
    `_data_utils.pd_cat_inf`); such columns are left out.

    Args:
        model: The part of the file that holds the trees.
        names: Of all columns; empty where the file does not tell.

    Raises:
        ValueError: It is broken.
    """
    columns = model.get("cats", {}).get("enc", ())
    if not columns or not names:
        return {}
    if len(columns) != len(names):
        raise ValueError(f"it has {len(names)} features, and categories of {len(columns)}")
    found = zip(names, map(_values, columns), strict=True)
    return {name: values for name, values in found if values}


def _values(column: Mapping[str, Any]) -> tuple[Value, ...]:
    stored = np.asarray(column["values"])
    if "offsets" not in column:
        return tuple(stored.tolist())
    content = bytes((stored.astype(np.int64) % 256).tolist())
    ends = np.asarray(column["offsets"], np.int64)
    if not content.isascii():
        return ()
    if len(ends) and (ends[0] != 0 or (np.diff(ends) < 0).any() or ends[-1] != len(content)):
        raise ValueError("the names of its categories are not divided")
    return tuple(content[start:end].decode() for start, end in itertools.pairwise(ends))
