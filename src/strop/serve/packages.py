"""What a server's image must have: packages in the versions that a bundle was measured with."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from ..bundle import Bundle
from ..errors import BundleError

SMALLER = {"xgboost": "xgboost-cpu"}
"""Packages that another does as well as, where it was what ran."""


def requirements(bundle: Bundle, wanted: Iterable[str]) -> str:
    """Lines for pip, each package in the version of the manifest; one that it does not tell comes in any.

    Raises:
        BundleError: The manifest tells what is no version.
    """
    known = bundle.environment.packages
    lines = []
    for name in wanted:
        name = SMALLER[name] if SMALLER.get(name) in known else name
        version = known.get(name.partition("[")[0])
        lines.append(_checked(f"{name}=={version}" if version and "==" not in name else name))
    return "".join(f"{line}\n" for line in lines)


def constraints(bundle: Bundle) -> str:
    """Every package of the manifest in its version, for pip to keep to where something brings it.

    Raises:
        BundleError: The manifest tells what is no package or version.
    """
    return "".join(f"{_checked(f'{name}=={version}')}\n" for name, version in bundle.environment.packages.items())


def python(bundle: Bundle) -> str:
    """The version of Python that a bundle was measured with.

    Raises:
        BundleError: The manifest tells what is no version.
    """
    version = bundle.environment.python
    if not re.fullmatch(r"3\.\d{1,2}(\.\d{1,2})?", version, re.ASCII):
        raise BundleError(f"the bundle's manifest must tell a version of Python, not {version!r}. Make it again.")
    return version


def _checked(line: str) -> str:
    try:
        Requirement(line)
        if not re.fullmatch(r"[\w.\[\]=!+-]+", line, re.ASCII):
            raise InvalidRequirement("it holds more than a name and a version")
    except InvalidRequirement as error:
        raise BundleError(
            f"the bundle's manifest must tell packages by name and version, not {line!r} ({error}). Make it again."
        ) from error
    return line
