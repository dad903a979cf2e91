"""Looking at a report as a person does: in a browser, in both schemes, on a phone; pointing, choosing, sorting."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from browser import Browser

MARKS = ".point, .js-line, .cartesianlayer .trace path"
DRAWN = f"[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('{MARKS}').length)"


def quiet(tab: Browser, file: Path, **how: Any) -> None:
    """Open a page: nothing complains, nothing is loaded, and nothing has to be scrolled sideways."""
    tab.open(file, **how)
    assert not tab.complaints
    assert [address for address in tab.requests if address != file.absolute().as_uri()] == []
    assert tab.js("document.documentElement.scrollWidth <= innerWidth")


def violations(tab: Browser) -> list[Any]:
    """What axe-core finds."""
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    tab.js(f"{axe};1")
    return tab.js(  # type: ignore[no-any-return]
        "axe.run().then(found => found.violations.map(v => [v.impact, v.id, v.nodes.map(n => n.html).join(' ')]))"
    )


def looked_at(tab: Browser, file: Path, figures: int) -> None:
    """All that is promised of a report.

    Args:
        figures: That it has at the least.
    """
    papers = set()
    for width, dark in ((360, True), (1200, False)):
        quiet(tab, file, width=width, dark=dark, reduced=True)
        papers.add(tab.js("getComputedStyle(document.body).backgroundColor"))
        drawn = tab.js(DRAWN)
        assert len(drawn) >= figures and all(drawn), drawn
        assert violations(tab) == []
    assert len(papers) == 2
    _point(tab)
    _choose(tab)
    _sort(tab)


def _point(tab: Browser) -> None:
    """A mark says what it is."""
    tab.js("document.querySelector('.plot').scrollIntoView()")
    place = (
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('.plot .point').getBoundingClientRect())"
    )
    tab.point(*tab.js(place))
    assert tab.until("document.querySelector('.hoverlayer').textContent")
    tab.point(1, 1)


def _choose(tab: Browser) -> None:
    """What a legend names is left out by one click."""
    plot = "[...document.querySelectorAll('.plot')].find(p => p.querySelectorAll('.legendtoggle').length > 1)"
    tab.js(f"{plot}.scrollIntoView()")
    count = f"[...{plot}.querySelectorAll('{MARKS}')].length"
    before = tab.js(count)
    tab.click(*tab.js(_middle(f"{plot}.querySelector('.legendtoggle')")))
    tab.until(f"{count} < {before}")


def _middle(element: str) -> str:
    return f"(r => [r.x + r.width / 2, r.y + r.height / 2])({element}.getBoundingClientRect())"


def _sort(tab: Browser) -> None:
    """The first column of numbers that differ, both ways."""
    found = tab.js("""(() => { for (const [at, table] of document.querySelectorAll('table.sortable').entries())
        for (let column = 0; column < table.tHead.rows[0].cells.length; column++) {
            const keys = [...table.tBodies[0].rows].map(row => row.cells[column]?.dataset.key)
            if (keys.every(key => key && Number.isFinite(+key)) && new Set(keys).size > 1) return [at, column]
        } })()""")
    assert found, "there is nothing to sort"
    table = f"document.querySelectorAll('table.sortable')[{found[0]}]"
    tab.js(f"{table}.tHead.rows[0].cells[{found[1]}].querySelector('button').focus()")
    for order in (1, -1):
        tab.press("Enter")
        keys = tab.js(f"[...{table}.tBodies[0].rows].map(row => +row.cells[{found[1]}].dataset.key)")
        assert keys == sorted(keys, key=lambda key: order * key)
