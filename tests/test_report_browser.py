"""The pages as a browser shows them: nothing complains, nothing is loaded, charts are drawn, and tables sort."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import CHROMIUM, Browser, browser
from engine import ACCURACY, COMPILED, ROUNDED, SIZE, STRIPPED, FakeRun, concluded, finding, outcome, report
from forests import grown
from looks import quiet, violations
from strop import Target, explain
from strop.anatomy import take_apart
from strop.formats.forest import save
from strop.report import page, unfinished
from strop.trial import Outcome, plain
from strop.tune import search
from test_anatomy import quantized

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)")

EVIL = "<script>window.evil=1</script><img src=x onerror=window.evil=1>&\"'"


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def found(fake_run: FakeRun) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A manifest whose winner is proven, and five candidates of all kinds, some by names that are code."""
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    proven = finding(ROUNDED, model, report(0.4))
    tried = [
        (ROUNDED, outcome(0.4, model=model)),
        (STRIPPED, outcome(0.6, {ACCURACY: "inconclusive", SIZE: "met"})),
        (COMPILED, outcome(0.3, {ACCURACY: "broken"})),
        (STRIPPED, Outcome("crashed", f"SIGSEGV {EVIL}", seconds=1.0)),
    ]
    manifest = json.loads(json.dumps(concluded(fake_run, [proven], tried=tried).manifest))
    manifest["original"]["source"] += EVIL
    manifest["not_tried"] = {EVIL: "does not fit"}
    candidates = [plain(*one) for one in tried]
    candidates[1]["candidate"] = f"fake-strip {EVIL} + fake"
    return manifest, candidates


def opened(tab: Browser, html: str, folder: Path, **how: Any) -> None:
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    quiet(tab, file, **how)
    assert tab.js("window.evil") is None


def test_a_page_opens_in_both_schemes_from_a_phone_to_a_wide_screen(tab: Browser, found: Any, tmp_path: Path) -> None:
    papers = set()
    for width, dark in ((360, False), (1200, True), (2400, False)):
        opened(tab, page(*found, EVIL), tmp_path, width=width, dark=dark, reduced=True)
        papers.add(tab.js("getComputedStyle(document.body).backgroundColor"))
        assert tab.js("document.querySelectorAll('.plot .point').length") == 4, "three candidates and the original"
        assert tab.js("document.querySelectorAll('.plot .shapelayer path').length") == 1, "the limit on accuracy"
        assert tab.js("document.querySelector('.plot .main-svg').getBoundingClientRect().right <= innerWidth")
    assert papers == {"rgb(255, 255, 255)", "rgb(21, 22, 24)"}
    tab.resize(760)
    tab.call("Emulation.setEmulatedMedia", media="print")
    tab.js("{ dispatchEvent(new Event('beforeprint')) }")
    tab.until("document.documentElement.scrollWidth <= innerWidth")  # on paper nothing is cut off
    tab.call("Emulation.setEmulatedMedia", media="")
    levels = [int(level) for level in tab.js("[...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName[1])")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    assert tab.js("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))")


def test_one_that_nothing_kept_says_so_and_shows_the_closest(tab: Browser, fake_run: FakeRun, tmp_path: Path) -> None:
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    broken = {ACCURACY: "broken", SIZE: "met"}
    near = finding(ROUNDED, model, report(0.5, broken, accuracy=0.96))
    tried = [(ROUNDED, outcome(0.5, broken, model=model)), (COMPILED, outcome(0.3, {ACCURACY: "broken"}))]
    original = report(1.0, {ACCURACY: "met", SIZE: "broken"})
    manifest = json.loads(json.dumps(concluded(fake_run, [near], original, tried).manifest))
    assert manifest["verdict"] == "infeasible"
    manifest["reason"] += EVIL
    manifest["advice"].append(EVIL)
    for width, dark in ((360, True), (1200, False)):
        opened(tab, page(manifest, [plain(*one) for one in tried]), tmp_path, width=width, dark=dark)
        assert tab.js("document.querySelector('.lead .infeasible').textContent") == "✕\N{NO-BREAK SPACE}infeasible"
        assert EVIL in tab.js("document.querySelector('#get').parentNode.textContent")
        assert tab.js("[...document.querySelectorAll('#get ~ * .broken')].length") >= 1
        assert tab.js("document.querySelectorAll('.plot .point').length") == 3, "two candidates and the original"
        paper, ink = tab.js("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        assert (paper == "rgb(21, 22, 24)") == dark and paper != ink


def test_axe_finds_nothing_that_bars_anyone(tab: Browser, found: Any, tmp_path: Path) -> None:
    """In either scheme, at two widths: of a result, of a run that was interrupted, and of a search over parameters."""
    tuned = search(lambda trial: (trial.params["x"] - 0.3) ** 2, {"x": [0.1, 0.2, 0.5, 0.8]}, threads=1)
    pages = [
        page(*found),
        unfinished("fake", f"minimize latency.p50; {ACCURACY}", "strop optimize --resume run", None, found[1], {}),
        tuned.report(tmp_path / "tuned.html").read_text(),
    ]
    for html, (width, dark) in itertools.product(pages, [(360, True), (1200, False)]):
        opened(tab, html, tmp_path, width=width, dark=dark, reduced=True)
        assert violations(tab) == []


def trapped(value: Any, names: frozenset[str]) -> Any:
    """The same data, with code in what a model's file names."""
    if isinstance(value, dict):
        return {
            key: item + EVIL if key in names and isinstance(item, str) else trapped(item, names)
            for key, item in value.items()
        }
    return [trapped(item, names) for item in value] if isinstance(value, list) else value


def of_layers(folder: Path) -> dict[str, Any]:
    """A network and its int8, taken apart; each layer, value and operator is called like code."""
    found = json.loads(json.dumps(take_apart(*quantized(folder), seconds=600)))
    assert found["explained"] and found["profile"] and found["sensitivity"], found["why_not"]
    return trapped(found, frozenset({"name", "value", "layer", "operator"}))  # type: ignore[no-any-return]


def of_trees(folder: Path) -> dict[str, Any]:
    """A forest and what is left of it; a column is called like code."""
    given = grown(np.random.default_rng(0), trees=30, features=4, leaves=20, names=(EVIL, "income", "city", "sex"))
    made = replace(given, roots=given.roots[:20], output=given.output[:20]).without_unused_nodes()
    models = []
    for name, one in (("given", given), ("made", made)):
        (folder / "trees" / name).mkdir(parents=True)
        models.append(save(one, folder / "trees" / name).path)
    rows = np.random.default_rng(1).normal(size=(100, 4))
    return {"explained": dict(explain(*models, {"x": rows}, target=Target(threads=1), metric="fidelity"))}


@pytest.mark.parametrize(("kind", "figures"), [(of_layers, 4), (of_trees, 2)])
def test_layers_and_trees_are_drawn_whatever_they_are_called(
    tab: Browser, found: Any, tmp_path: Path, quick_looks: None, kind: Any, figures: int
) -> None:
    anatomy = kind(tmp_path)
    for width, dark in ((360, True), (1200, False)):
        opened(tab, page(*found, "", anatomy), tmp_path, width=width, dark=dark, reduced=True)
        plots = tab.js(
            "[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.point, .js-line').length)"
        )
        assert len(plots) >= 1 + figures and all(plots), plots
        ticks = tab.js("[...document.querySelectorAll('#why ~ * .ytick text')].map(t => t.textContent)")
        assert any(EVIL in tick for tick in ticks), ticks
        assert violations(tab) == []
    hatched = tab.js("document.querySelectorAll('pattern').length")
    assert hatched >= 1, "of two sides, one has a pattern, for those who see no colour"


def test_five_hundred_candidates_of_nine_metrics_are_under_six_megabytes(
    tab: Browser, found: Any, tmp_path: Path, quick_looks: None
) -> None:
    manifest, (first, *_) = found
    names = ("latency.p95", "latency.p99", "latency.mean", "throughput", "memory", "top_5")
    route = " + ".join([*["fake-technique-of-a-long-name(setting=0.123, other=word)"] * 3, "fake"])
    tried = []
    for number in range(500):
        one = json.loads(json.dumps(first))
        figures = one["report"]["figures"]
        figures |= {name: figures["latency.p50"] for name in names}
        for place, name in enumerate(figures):
            off = 1 + ((number * (place + 3)) % 97) / 500
            figures[name] = {
                side: {key: value * off for key, value in told.items()} if isinstance(told, dict) else told
                for side, told in figures[name].items()
            }
        tried.append({**one, "candidate": f"{route} {number}", "runtime": {**one["runtime"], "number": number}})
    assert len(tried[0]["report"]["figures"]) == 9
    html = page({**manifest, "candidates": 500}, tried, "", of_layers(tmp_path))
    assert len(html.encode()) < 6e6
    opened(tab, html, tmp_path, width=1200, reduced=True)
    assert tab.js("document.querySelectorAll('.plot .scatterlayer .point').length") >= 500
    assert tab.js("document.querySelectorAll('#choices ~ * table.sortable tbody tr').length") >= 500


def test_axes_are_chosen_and_a_mark_tells_its_route(tab: Browser, found: Any, tmp_path: Path) -> None:
    opened(tab, page(*found), tmp_path)
    title = "document.querySelector('.plot .xtitle').textContent"
    assert tab.js(title) == "latency.p50, times the original's (← better)"
    spot = "[...document.querySelectorAll('.plot .point')].map(p => p.getBoundingClientRect())"
    tab.js("document.querySelector('figure').scrollIntoView()")
    for x, y in tab.js(f"{spot}.map(r => [r.x + r.width / 2, r.y + r.height / 2])"):
        tab.point(1, 1)
        tab.until("!document.querySelector('.hoverlayer').textContent")
        tab.point(x, y)
        shown = tab.until("document.querySelector('.hoverlayer').textContent")
        assert "original" in shown or ("fake-" in shown and "0.9000" in shown), shown
    toggle = "document.querySelectorAll('.plot .legendtoggle')[3].getBoundingClientRect()"
    x, y = tab.js(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({toggle})")
    tab.click(x, y)
    tab.until("document.querySelectorAll('.plot .point').length == 3")  # what breaks a limit is left out
    tab.js("{ const s = document.querySelector('select'); s.value = 'size'; s.dispatchEvent(new Event('change')) }")
    assert tab.js(title) == "size, times the original's (← better)"
    assert tab.js("document.querySelectorAll('.plot .shapelayer path').length") == 1, "the limit on accuracy"
    assert tab.js("document.querySelector('figcaption').textContent") == f"Far from all marks, so not drawn: {SIZE}."


def test_the_room_of_an_axis_is_no_finer_than_what_can_be_told_apart(
    tab: Browser, fake_run: FakeRun, tmp_path: Path
) -> None:
    """A limit is then drawn that hardly any difference lies beside, and it is wide enough for a phone."""
    model = fake_run.setting.original.model.to_json(fake_run.run.root)
    same = report(0.5, accuracy=1 + 1e-7)
    tried = [(ROUNDED, Outcome("done", report=same, seconds=1.0, model=model))]
    manifest = json.loads(json.dumps(concluded(fake_run, [finding(ROUNDED, model, same)], tried=tried).manifest))
    opened(tab, page(manifest, [plain(*one) for one in tried]), tmp_path, width=360)
    low, high = tab.js("document.querySelector('.plot').layout.yaxis.range")
    assert 0.009 < high - low < 0.1
    assert tab.js("document.querySelectorAll('.plot .shapelayer path').length") == 1, "the limit on accuracy"
    spot = "[...document.querySelectorAll('.plot .point')].at(-1).getBoundingClientRect()"
    tab.js("document.querySelector('figure').scrollIntoView()")
    tab.point(*tab.js(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({spot})"))
    tab.until("document.querySelector('.hoverlayer').textContent")
    left, right = tab.js("(r => [r.left, r.right])(document.querySelector('.hoverlayer').getBoundingClientRect())")
    assert left >= 0 and right <= 360, "what a mark says is not cut off"


def test_a_limit_on_the_worst_slice_is_drawn(tab: Browser, found: Any, tmp_path: Path) -> None:
    manifest, candidates = found
    limit = "worst_slice(accuracy) >= 99% of original"
    opened(tab, page({**manifest, "goal": {**manifest["goal"], "limits": [limit]}}, candidates), tmp_path)
    assert tab.js("document.querySelectorAll('.plot .shapelayer path').length") == 1
    assert tab.js("document.querySelector('.plot .infolayer').textContent").count(limit) == 1


def test_code_is_copied_by_one_press(tab: Browser, found: Any, tmp_path: Path) -> None:
    opened(tab, page(*found, "print('deployed')"), tmp_path)
    button = "[...document.querySelectorAll('.code button')][0]"
    tab.js(f"{{ navigator.clipboard.writeText = async text => {{ window.kept = text }}; {button}.focus() }}")
    tab.press("Enter")
    tab.until(f"{button}.textContent === 'Copied'")
    assert tab.js("window.kept") == "print('deployed')"


def test_a_table_sorts_by_the_keyboard(tab: Browser, found: Any, tmp_path: Path) -> None:
    opened(tab, page(*found), tmp_path)
    head = "[...document.querySelectorAll('table.sortable th[scope=col]')].find(h => h.textContent == 'latency.p50')"
    tab.js(f"{head}.querySelector('button').focus()")
    column = (
        f"[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[{head}.cellIndex].textContent)"
    )
    for order, reverse in (("ascending", False), ("descending", True)):
        tab.press("Enter")
        assert tab.js(f"{head}.getAttribute('aria-sort')") == order
        told = [float(cell.partition("x")[0]) for cell in tab.js(column) if cell]
        assert told == sorted(told, reverse=reverse) and len(told) == 3
        assert tab.js(column)[-1] == "", "what was not measured comes last"


def test_an_interrupted_run_and_a_search_over_parameters_open_too(tab: Browser, found: Any, tmp_path: Path) -> None:
    asked = f"minimize latency.p50; {ACCURACY}"
    opened(tab, unfinished(EVIL, asked, f"strop optimize --resume {EVIL}", None, found[1], {}), tmp_path, width=360)
    assert tab.js("document.querySelectorAll('.plot .point').length") == 4
    tuned = search(
        lambda trial: trial.params["x"] - trial.params[EVIL], {"x": [0.1, 0.2, 0.5], EVIL: [1, 2, 3]}, threads=1
    )
    opened(tab, tuned.report(tmp_path / "tuned.html").read_text(), tmp_path, width=360, dark=True)
    drawn = tab.js("[...document.querySelectorAll('.plot')].map(p => p.querySelectorAll('.point').length)")
    assert len(drawn) >= 4 and all(drawn[:2]), drawn
    assert tab.js("[...document.querySelectorAll('.plot')].every(p => p.getBoundingClientRect().right <= innerWidth)")
