"""CatBoost's hash of categories, and back: which whole numbers have it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from ..forest import Array

MOST = 10**7  # float32 holds all whole numbers up to 16,777,216
_PIECE = 10**6
_K2, _K3 = np.uint64(0x9AE16A3B2F90404F), np.uint64(0xC949D7C7509E6557)
_MULTIPLIER = np.uint64(0x9DDFEA08EB382D69)


def hashes(numbers: Array) -> Array:
    """What CatBoost takes categories for: [n] int32, the lower half of CityHash64 of their decimals.

    Google's CityHash, version 1.0, for strings of up to 8 bytes.

    Args:
        numbers: [n], all with the same number of digits, 8 at most.
    """
    length = len(str(int(numbers[0])))
    with np.errstate(over="ignore"):
        if length < 4:
            text = (ord("0") + numbers[:, None] // 10 ** np.arange(length - 1, -1, -1) % 10).astype(np.uint64)
            first = text[:, 0] + (text[:, length >> 1] << np.uint64(8))
            last = np.uint64(length) + (text[:, -1] << np.uint64(2))
            mixed = _shifted(first * _K2 ^ last * _K3) * _K2
        else:
            four = _four_digits()
            first, last = four[numbers // 10 ** (length - 4)], four[numbers % 10**4]
            first = np.uint64(length) + (first << np.uint64(3))
            mixed = _shifted((last ^ _shifted((first ^ last) * _MULTIPLIER)) * _MULTIPLIER) * _MULTIPLIER
    return np.asarray(mixed.astype(np.uint32).view(np.int32))


@functools.cache
def _four_digits() -> Array:
    """[10000] uint64: what four digits are as a little-endian number."""
    places = np.arange(4)
    text = ord("0") + np.arange(10**4)[:, None] // 10 ** (3 - places) % 10
    return np.asarray((text << (8 * places)).sum(axis=1), np.uint64)


def codes(wanted: Array) -> tuple[Array, Array]:
    """Whole numbers that have one of some hashes, ascending, and each one's place among the hashes (all distinct).

    Raises:
        ValueError: One is of no number below `MOST`.
    """
    order = np.argsort(wanted)
    found, places = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for numbers in _pieces():
        if len(np.unique(places)) == len(wanted):
            break
        these = hashes(numbers)
        near = order[np.minimum(np.searchsorted(wanted, these, sorter=order), len(wanted) - 1)]
        at = np.flatnonzero(wanted[near] == these)
        found, places = np.r_[found, numbers[at]], np.r_[places, near[at]]
    if missing := len(wanted) - len(np.unique(places)):
        raise ValueError(f"{missing} of {len(wanted)} are none")
    return found, places


def _pieces() -> Iterator[Array]:
    """All numbers, by their length."""
    start = 0
    while start < MOST:
        stop = min(10 ** len(str(start)), start + _PIECE)
        yield np.arange(start, stop)
        start = stop


def _shifted(value: Array) -> Array:
    return np.asarray(value ^ (value >> np.uint64(47)))
