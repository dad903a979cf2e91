"""A notebook, run by a kernel of its own as JupyterLab does: what is shown is HTML, figures with what draws them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import quickly

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.long
EXAMPLE = Path(__file__).parents[1] / "examples" / "fashion_mnist"
CELLS = {
    "result": """
        result = strop.optimize(
            MODEL, DATA, "minimize latency.p50; accuracy >= 90% of original",
            target=strop.Target(threads=1), budget=strop.Budget(300, trials=1), run="run")
        result
    """,
    "frame": "result.to_frame()",
    "choices": "result.plot()",
    "bundle": "bundle = result.save('bundle')\nbundle",
    "profile": "profile = strop.profile(MODEL, DATA, target=strop.Target(threads=1))\nprofile",
    "layers": "profile.plot()",
    "comparison": "strop.compare(MODEL, bundle.folder, DATA, target=strop.Target(threads=1))",
}
SAID = {
    "result": "accuracy &gt;= 90% of original",
    "frame": "latency.p50.ratio",
    "choices": "Plotly",
    "bundle": "In ",
    "profile": "a call, through onnxruntime",
    "layers": "Plotly",
    "comparison": "latency.p50",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each cell shows, by its name."""
    folder = tmp_path_factory.mktemp("notebook")
    with np.load(EXAMPLE / "test.npz") as images:  # a fifth of them: what is told of a proof is tested elsewhere
        np.savez(folder / "test.npz", **{name: images[name][:1000] for name in images})
    begin = f"import strop\nMODEL, DATA = {str(EXAMPLE / 'model.onnx')!r}, 'test.npz'"
    cells = [
        f"import quickly\nquickly.begin()\n{begin}",
        *("\n".join(line.strip() for line in code.strip().splitlines()) for code in CELLS.values()),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells])
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env=quickly.environment())
    return dict(zip(CELLS, (cell["outputs"] for cell in notebook["cells"][1:]), strict=True))


@pytest.mark.parametrize("name", CELLS)
def test_each_cell_shows_itself_as_html(shown: dict[str, Any], name: str) -> None:
    *before, output = shown[name]
    assert [one["output_type"] for one in before] == (["display_data"] if name == "result" else [])
    assert output["output_type"] == "execute_result"
    assert SAID[name] in output["data"]["text/html"]


def test_how_far_a_search_is_stands_in_one_output(shown: dict[str, Any]) -> None:
    html = shown["result"][0]["data"]["text/html"]
    assert "met" in html or "no better" in html
    assert "best so far, of " in html
