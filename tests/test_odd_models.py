"""ONNX in, whatever it looks like: each odd model goes through the whole job, or is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import strop
from models import KINDS, case


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("mlp", "cnn")])
def test_odd_models_go_through(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    odd = case(kind, tmp_path / "models")
    arrays = {**odd.data.inputs, **odd.data.constants}
    result = strop.optimize(
        odd.model.path, arrays, "fidelity >= 0.5; minimize size", target=strop.Target(threads=1),
        budget=strop.Budget(600, 2), run=tmp_path / "run",
    )  # fmt: skip
    assert result.verdict == "met", result.reason
    causes = {outcome.cause for _, outcome in result.tried}
    assert causes <= {"done", "refused"}, [outcome.reason for _, outcome in result.tried]
    bundle = result.save(tmp_path / "bundle")
    samples, expected = bundle.samples()
    np.testing.assert_allclose(
        next(iter(bundle.predict({**samples.inputs, **samples.constants}).values())),
        next(iter(expected.values())), rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    signature = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["winner"]["signature"]
    assert [t["name"] for t in signature["inputs"]] == [t.name for t in odd.model.signature.inputs]
