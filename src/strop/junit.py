"""JUnit: what `verify` found as XML that CI servers show: a test case for the outputs, and one for each limit.

What is broken is a failure. What could not be decided or was not checked is *skipped*, with the reason: it has not
failed, and the exit code (4) tells it from what is met, so that a pipeline may choose. A bundle that can't be verified
at all is an error.

The form is that of Ant and Jenkins (github.com/windyroad/JUnit-Schema).
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from . import summary
from ._plain import restore
from .errors import StropError
from .opened import Environment
from .prepare import environment
from .verification import explain

FLAG = "--junit"
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0, even escaped


def write(path: Path, bundle: str, found: Mapping[str, Any] | StropError) -> None:
    """Write what was found of a bundle: a whole file or none.

    Args:
        path: The file; one that is there is replaced.
        bundle: The bundle's name.
        found: What `verify` returned, or the error that it ended in.

    Raises:
        InvalidPlan: The file can't be written.
    """
    root = ElementTree.Element("testsuites")
    root.append(_errored(bundle, found) if isinstance(found, StropError) else _suite(bundle, found))
    ElementTree.indent(root)
    tree = ElementTree.ElementTree(root)
    summary.write(FLAG, path, lambda file: tree.write(file, encoding="utf-8", xml_declaration=True))


def _suite(bundle: str, found: Mapping[str, Any]) -> ElementTree.Element:
    outputs, limits, seconds = found["outputs"], found["limits"], found["seconds"]
    first = _case(bundle, "outputs are as stored", seconds["outputs"])
    said = ". Likely cause: ".join([outputs["said"], *outputs["causes"][:1]])
    if outputs["verdict"] == "different":
        _add(first, "failure", said, "different", "\n".join([said, *outputs["causes"][1:], *_differences(found)]))
    elif outputs["verdict"] == "close" and found["verdict"] == "inconclusive":
        _add(first, "skipped", said)
    cases = [first]
    measured = sum(limit["verdict"] != "not checked" for limit in limits)
    for limit in limits:
        share = 0.0 if limit["verdict"] == "not checked" else seconds["limits"] / measured  # they are measured together
        case = _case(bundle, limit["limit"], share)
        said = f"{limit['limit']} is {explain(limit)}"
        if limit["verdict"] == "broken":
            _add(case, "failure", said, "broken", "\n".join([said, *_differences(found)]))
        elif limit["verdict"] != "met":
            _add(case, "skipped", said)
        cases.append(case)
    lines = [outputs["said"], *(f"{limit['limit']} is {explain(limit)}" for limit in limits)]
    return _assembled(bundle, found["environment"]["here"], cases, sum(seconds.values()), lines)


def _errored(bundle: str, error: StropError) -> ElementTree.Element:
    case = _case(bundle, "outputs are as stored", 0.0)
    _add(case, "error", str(error), type(error).__name__, str(error))
    return _assembled(bundle, restore(Environment, environment()).flat(), [case], 0.0, [])


def _assembled(
    bundle: str, properties: Mapping[str, str], cases: Sequence[ElementTree.Element], seconds: float, lines: list[str]
) -> ElementTree.Element:
    count = {kind: str(sum(case.find(kind) is not None for case in cases)) for kind in ("failure", "error", "skipped")}
    suite = ElementTree.Element("testsuite", {
        "id": "0", "package": "strop", "name": _legal(f"verify {bundle}"), "hostname": platform.node() or "localhost",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S"), "time": f"{seconds:.3f}", "tests": str(len(cases)),
        "failures": count["failure"], "errors": count["error"], "skipped": count["skipped"],
    })  # fmt: skip
    held = ElementTree.SubElement(suite, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(held, "property", name=_legal(name), value=_legal(value))
    suite.extend(cases)
    ElementTree.SubElement(suite, "system-out").text = _legal("\n".join(lines))
    ElementTree.SubElement(suite, "system-err")
    return suite


def _case(bundle: str, name: str, seconds: float) -> ElementTree.Element:
    return ElementTree.Element(
        "testcase", name=_legal(name), classname=_legal(f"strop.verify.{bundle}"), time=f"{seconds:.3f}"
    )


def _add(case: ElementTree.Element, kind: str, message: str, type: str = "", text: str = "") -> None:
    found = ElementTree.SubElement(case, kind, {"message": _legal(message)} | ({"type": type} if type else {}))
    found.text = _legal(text) or None


def _differences(found: Mapping[str, Any]) -> list[str]:
    rows = found["environment"]["differences"]
    return [f"{r['what']}: {r['bundle'] or 'none'} where it was made, {r['here'] or 'none'} here" for r in rows]


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
