"""PyTorch modules exported to ONNX, and held against themselves."""

from __future__ import annotations

from pathlib import Path

import torch


def export(model: torch.nn.Module, inputs: dict[str, torch.Tensor], output: str, file: Path, free_batch: bool) -> None:
    """Write an ONNX file with inputs and an output of these names.

    The inputs must be tensors of their own, and the output must not be named like an operator (`embedding`): the
    exporter makes one input of a tensor that it is given twice, and defines such a name twice. Both give a file without
    a word of warning.

    Raises:
        SystemExit: ONNX Runtime gets other results from the file than PyTorch from the module.
    """
    import onnxruntime

    axes = {0: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        model.eval(),
        tuple(inputs.values()),
        file,
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes=tuple(axes for _ in inputs) if free_batch else None,
        external_data=False,
        dynamo=True,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    with torch.no_grad():
        expected = model(*inputs.values()).numpy()
    if abs(exported - expected).max() > 1e-4 * abs(expected).max():
        raise SystemExit(f"{file} gives other results than the module that was exported.")
