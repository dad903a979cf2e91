"""Kept: what is costly to make of a model, and the same for several steps of a run, is made once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model import Model
from ..technique import Context


def kept_folder(name: str, model: Model, settings: Mapping[str, Any], context: Context) -> Path:
    """Where it lies: a folder of its own for each model and settings.

    Args:
        name: Of what is kept.
        model: What it is made of.
        settings: All else that it depends on.
        context: Of the step; a folder that it shares is that of one run, with one set of samples to calibrate with.
    """
    samples = "" if context.shared or context.calibration is None else context.calibration.digest()
    key = hashlib.sha256(json.dumps([model.digest(), settings, samples], sort_keys=True).encode()).hexdigest()[:24]
    kept = (context.shared or context.folder.parent) / f"{name}-{key}"
    kept.mkdir(parents=True, exist_ok=True)
    return kept
