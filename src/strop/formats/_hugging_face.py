"""Hugging Face model folders: an architecture that transformers has, and safetensors. No code from them is run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._lazy import lazy, require
from .._plain import told
from .._quiet import silenced
from ..errors import UnsupportedModel, UntrustedModel

if TYPE_CHECKING:
    import torch
else:
    torch = lazy("torch", "torch")

INDEX = "model.safetensors.index.json"
KERNELS = "attn_implementation", "experts_implementation"


def is_folder(source: object) -> bool:
    """Whether it is the path of one."""
    if not isinstance(source, (str, os.PathLike)):
        return False
    folder = Path(source)
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def read_folder(folder: Path) -> torch.nn.Module:
    """The module, in evaluation mode.

    Raises:
        UnsupportedModel: It can't be read, lacks weights, or is of an architecture that transformers does not have.
        UntrustedModel: It asks for code, or for files outside of the folder.
    """
    with silenced():
        transformers = require("transformers", "torch")
    config = _json(folder / "config.json")
    if asked := next(_hub_kernels(config), None):
        raise UntrustedModel(
            f"A folder must not ask for code, and {folder / 'config.json'} asks for the kernel {asked!r}. Take that "
            "out of it; or build the module in a function of your own, and give module:function."
        )
    _check_inside(folder)
    names = config.get("architectures") or ["AutoModel"]
    name = names[0] if isinstance(names, list) else names
    builder = getattr(transformers, name, None) if isinstance(name, str) else None
    if builder is None:
        raise UnsupportedModel(
            f"{folder / 'config.json'} must name an architecture that transformers has, and names {name!r}. "
            "Build it in a function of your own, and give module:function."
        )
    try:
        with silenced():
            module, loaded = builder.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
    except Exception as error:  # of a large library, on whatever the folder holds
        raise UnsupportedModel(
            f"A folder must be one that transformers loads, and {folder} is not: {told(error)}. Save the model again, "
            "or give module:function that builds it."
        ) from error
    if missing := sorted(loaded["missing_keys"]):
        raise UnsupportedModel(
            f"A folder must hold all weights of {name}, and {folder} lacks {len(missing)} of them ({missing[0]}, ...), "
            "which would be random. Give a whole one, or module:function that builds what there is."
        )
    if hasattr(module.config, "use_cache"):
        module.config.use_cache = False
    made: torch.nn.Module = module.eval()
    return made


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UnsupportedModel(f"{path} must be JSON, and is not: {told(error)}. Save the model again.") from error
    if not isinstance(content, dict):
        raise UnsupportedModel(
            f"{path} must be a JSON object, and is a {type(content).__name__}. Save the model again."
        )
    return content


def _hub_kernels(config: Any) -> Iterator[str]:
    """Code of a repository that a configuration, or one within it, names in place of its own attention."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if any(word in key for word in KERNELS):
            yield from (text for text in _texts(value) if "/" in text)
        yield from _hub_kernels(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else ():
        yield from _texts(item)


def _check_inside(folder: Path) -> None:
    """Hold the index of a model in several files to the folder (a link in there is the owner's own)."""
    if not (folder / INDEX).is_file():
        return
    files = _json(folder / INDEX).get("weight_map")
    for name in files.values() if isinstance(files, dict) else ():
        if not isinstance(name, str) or Path(name).name != name:
            raise UntrustedModel(
                f"A folder's weights must lie in it, and {folder / INDEX} names {name!r}. Save the model again."
            )
