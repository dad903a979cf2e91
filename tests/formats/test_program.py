"""Exported programs are read where they hold arithmetic, and refused where reading them would run code."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop.errors import UntrustedModel
from strop.formats._program import read_program

torch = pytest.importorskip("torch")
AUTO = torch.export.Dim.AUTO


class Sizes(torch.nn.Module):
    """Sizes that are computed, and what they are held to."""

    def forward(self, x, y):  # type: ignore[no-untyped-def]
        torch._check(x.shape[0] < 1000)
        halves = torch.cat([x, x]).reshape(x.shape[0] // 2, -1)
        product = torch.einsum("ij,kj->ik", x, y)
        return {"the halves": halves, "product": product if x.shape[0] % 4 else -product}


class Blocks(torch.nn.Module):
    """Graphs in a graph, a size that is a value, and a text among the arguments."""

    def forward(self, x, y):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            chosen = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
        with torch.autocast("cpu", torch.bfloat16):
            product = torch.nn.functional.gelu(x @ y.T, approximate="tanh")
        size = x.argmax().item()
        torch._check(size >= 0)
        torch._check(size < 100)
        return chosen, product, torch.zeros(size + 1)


def saved(module: Any, path: Path) -> Path:
    inputs = (torch.randn(8, 6), torch.randn(8, 6))
    program = torch.export.export(module, inputs, dynamic_shapes=({0: AUTO}, {0: AUTO}))
    torch.export.save(program, path)
    return path


def changed(path: Path, change: Callable[[Any], Any]) -> bytes:
    """The archive, its graph changed and padded to a round size."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(made, "w") as new:
        for name in given.namelist():
            content = given.read(name)
            if name.endswith("models/model.json"):
                content = json.dumps(change(json.loads(content))).encode().ljust(1 << 17)
            new.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def everywhere(plain: Any, key: str, value: str) -> Any:
    """Put a text wherever a key is."""
    if isinstance(plain, dict):
        return {k: value if k == key else everywhere(v, key, value) for k, v in plain.items()}
    return [everywhere(v, key, value) for v in plain] if isinstance(plain, list) else plain


def renamed(plain: Any, old: str, new: str) -> Any:
    return json.loads(json.dumps(plain).replace(json.dumps(old), json.dumps(new)))


@pytest.mark.parametrize("module", [Sizes(), Blocks()], ids=lambda module: type(module).__name__)
def test_what_computes_is_read(tmp_path: Path, module: Any) -> None:
    torch.manual_seed(0)
    program = read_program(saved(module, tmp_path / "good.pt2"))
    x, y = torch.randn(8, 6), torch.randn(8, 6)
    expected, found = module(x, y), program.module()(x, y)
    expected, found = (list(a.values() if isinstance(a, dict) else a) for a in (expected, found))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain, code: everywhere(plain, "expr_str", code),
        lambda plain, code: everywhere(plain, "guards_code", [code]),
        lambda plain, code: renamed(plain, "x", f"x={code}"),
        lambda plain, code: everywhere(plain, "target", "torch.os.mkdir"),
        lambda plain, code: everywhere(plain, "target", "torch.ops.aten.save.default"),
        lambda plain, code: everywhere(plain, "in_spec", '[{"context": {"default_factory_module": "x"}}]'),
        lambda plain, code: everywhere(plain, "metadata", {"stack_trace": "", "expr_str": code}),
    ],
    ids=["size", "guard", "name", "operator", "writes", "import", "notes"],
)  # fmt: skip
def test_what_would_run_code_is_refused(tmp_path: Path, change: Callable[[Any, str], Any]) -> None:
    good, evil, ran = saved(Sizes(), tmp_path / "good.pt2"), tmp_path / "evil.pt2", tmp_path / "ran"
    evil.write_bytes(changed(good, lambda plain: change(plain, f"__import__('os').mkdir({str(ran)!r})")))
    with pytest.raises(UntrustedModel, match="could run code"):
        read_program(evil)
    assert not ran.exists()


def test_two_archives_in_one_file_do_not_deceive(tmp_path: Path) -> None:
    """Python's reader finds the one at the end, PyTorch's the one that is named by its offset."""
    good, ran = saved(Sizes(), tmp_path / "good.pt2"), tmp_path / "ran"
    plain = changed(good, lambda plain: plain)
    other = changed(good, lambda plain: everywhere(plain, "expr_str", f"__import__('os').mkdir({str(ran)!r})"))
    end = plain.rindex(b"PK\5\6")
    assert len(plain) == len(other)
    (tmp_path / "two.pt2").write_bytes(other[:end] + plain[:end] + plain[end:])
    with zipfile.ZipFile(tmp_path / "two.pt2") as archive:
        assert b"mkdir" not in archive.read("good/models/model.json")
    assert struct.unpack("<I", plain[end + 16 : end + 20])[0] < end
    with pytest.raises(UntrustedModel, match="mkdir"):
        read_program(tmp_path / "two.pt2")
    assert not ran.exists()
