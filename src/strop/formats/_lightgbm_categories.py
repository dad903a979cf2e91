"""What a LightGBM file knows of the columns of categories of the frame that it was trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from ..model import Value

_LISTS = re.compile(r"^pandas_categorical:(.*)$", re.MULTILINE)
_INFOS = re.compile(r"^feature_infos=(.*)$", re.MULTILINE)
_CHOSEN = re.compile(r"^\[categorical_feature: ([\d,]*)\]$", re.MULTILINE)


def categories(text: str, names: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    """By column, its categories in the order of their codes.

    The file lists them for each column of categories that the frame had, but not which these are: those that are split
    by subsets, as a rule. An ordered column is split by thresholds; where there is one, columns are told if there is
    but one way to match them and the lists.

    Args:
        text: Of the file.
        names: Of all columns; empty where it was not trained on a frame.

    Returns:
        Nothing where it can't be told.

    Raises:
        ValueError: It is broken.
    """
    text = text.replace("\r\n", "\n")
    lists = [_values(one) for one in json.loads(next(iter(_LISTS.findall(text)), "null")) or ()]
    if not lists or not names:
        return {}
    infos = " ".join(_INFOS.findall(text)).split()
    if len(infos) != len(names):
        raise ValueError(f"it has {len(names)} features and {len(infos)} feature_infos")
    chosen = {int(number) for found in _CHOSEN.findall(text) for number in found.split(",") if number}
    subsets = [place for place, info in enumerate(infos) if place in chosen or info[0] not in "[n"]
    early = _matching(lists, infos, range(len(infos)))
    late = _matching(lists[::-1], infos, reversed(range(len(infos))))[::-1]
    for places in (subsets, early if early == late else []):
        if len(places) == len(lists) and all(map(_fits, lists, (infos[place] for place in places))):
            return {names[place]: values for place, values in zip(places, lists, strict=True)}
    return {}


def _matching(lists: Sequence[Sequence[Value]], infos: Sequence[str], places: Iterable[int]) -> list[int]:
    """The column of each list, one after the other, each as early as it can be."""
    found: list[int] = []
    for place in places:
        if len(found) < len(lists) and _fits(lists[len(found)], infos[place]):
            found.append(place)
    return found


def _fits(values: Sequence[Value], info: str) -> bool:
    """Whether a column may hold the codes of some categories: `a:b:c` lists codes, `[a:b]` bounds numbers."""
    if info == "none":  # it was of no use
        return True
    seen = [float(number) for number in info.strip("[]").split(":")]
    return all(number.is_integer() and -1 <= number < len(values) for number in seen)


def _values(given: object) -> tuple[Value, ...]:
    if not isinstance(given, list) or not all(isinstance(value, (str, bool, int, float)) for value in given):
        raise ValueError("pandas_categorical must list the categories of each column")
    return tuple(given)
