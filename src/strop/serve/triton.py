"""Triton: a model repository for its ONNX Runtime or OpenVINO backend.

The layout and the keys of `config.pbtxt` are those of Triton's documentation (model repository, model configuration)
and of the READMEs of its backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._lazy import lazy
from ..bundle import Bundle
from ..errors import NotApplicable
from ..model import Signature, Tensor
from . import packages
from .kserve import service
from .tensors import datatype, shape

if TYPE_CHECKING:
    import onnx
else:
    onnx = lazy("onnx")

BACKENDS = ("onnxruntime", "openvino")  # which Triton calls as strop calls its runtimes
ELSEWHERE = "Serve it with --for mlserver, or search for what fits: strop optimize ... --formats onnx,openvino."

DOCKERFILE = """\
# docker build --build-arg TRITON=IMAGE, an image of NVIDIA's tritonserver with the backend {backend}. The bundle was
# measured with {measured}: the outputs of another version may differ in their last digits.
ARG TRITON
FROM ${{TRITON}}
COPY models /models
USER 1000
EXPOSE 8000 8001
CMD ["tritonserver", "--model-repository=/models", "--strict-readiness=true"]
"""


def write(bundle: Bundle, name: str, folder: Path) -> None:
    """Write the repository.

    Raises:
        NotApplicable: Triton has no backend for the model's format, or its backend can't do what was measured.
        BundleError: The manifest names what can't be installed.
    """
    text = config(bundle, name)
    version = folder / "models" / name / "1"
    version.mkdir(parents=True)
    bundle.model.copy_to(version)
    (version.parent / "config.pbtxt").write_text(text)
    backend = bundle.runtime.label()
    measured = packages.requirements(bundle, [backend]).strip()
    (folder / "Dockerfile").write_text(DOCKERFILE.format(backend=backend, measured=measured))
    (folder / "inference-service.yaml").write_text(service(name, bundle.target))


def config(bundle: Bundle, name: str) -> str:
    """What `config.pbtxt` says.

    Requests of several clients go into one call of up to as many samples as were measured in one, where that is more
    than one, and where every input and output has them on its first axis.

    Raises:
        NotApplicable: As `write`.
    """
    runtime, signature = bundle.runtime.label(), bundle.model.signature
    if runtime not in BACKENDS:
        raise NotApplicable(
            f"Triton runs ONNX and OpenVINO models here, and this one, in {bundle.model.format}, runs on {runtime}. "
            f"{ELSEWHERE}"
        )
    if scalar := next((tensor for tensor in signature.inputs if not tensor.shape), None):
        raise NotApplicable(f"Triton takes no input without an axis, and the model has {scalar}. {ELSEWHERE}")
    if runtime == "onnxruntime":
        _check_outputs(bundle)
    options = bundle.runtime.settings()
    kind = "KIND_CPU" if options.get("provider", "cpu") == "cpu" else "KIND_GPU"
    batch = bundle.target.batch if runtime == "onnxruntime" and _batches(signature) else 1
    skip = 1 if batch > 1 else 0
    said: dict[str, Any] = {
        "name": name,
        "backend": runtime,
        "default_model_filename": bundle.model.path.name,
        "max_batch_size": batch if batch > 1 else 0,
        "input": [_tensor(tensor, skip) for tensor in signature.inputs],
        "output": [_tensor(tensor, skip) for tensor in signature.outputs],
        "instance_group": [{"count": 1, "kind": _Word(kind)}],
        "parameters": [
            {"key": key, "value": {"string_value": value}}
            for key, value in _parameters(runtime, options, bundle.target.threads).items()
        ],
    }
    if batch > 1:
        said["dynamic_batching"] = {}
    if options.get("provider") == "tensorrt":
        said["optimization"] = {"execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}}
    return _remark(runtime, options, signature) + _text(said)


class _Word(str):
    """A name of the configuration's own, which stands without quotes."""


def _check_outputs(bundle: Bundle) -> None:
    """Raises: NotApplicable: An output is a map, as scikit-learn's converters have them unless told otherwise."""
    graph = onnx.load(str(bundle.model.path), load_external_data=False).graph
    names = {tensor.name for tensor in bundle.model.signature.outputs}
    for output in graph.output:
        if output.name in names and output.type.WhichOneof("value") != "tensor_type":
            raise NotApplicable(
                f"Triton gives tensors, and the model's output {output.name!r} is none. Export it without ZipMap "
                "(scikit-learn: options={'zipmap': False}), or serve it with --for mlserver."
            )


def _batches(signature: Signature) -> bool:
    """Whether every tensor has samples on its first axis, as many as one likes."""
    tensors = (*signature.inputs, *signature.outputs)
    return not signature.states and all(
        tensor.batched and tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors
    )


def _tensor(tensor: Tensor, skip: int) -> dict[str, Any]:
    known = datatype(tensor)
    sizes = shape(tensor)[skip:]
    return {
        "name": tensor.name,
        "data_type": _Word(f"TYPE_{'STRING' if known == 'BYTES' else known}"),
        # one number a sample is an axis of none, which Triton spells so
        **({"dims": sizes} if sizes else {"dims": [1], "reshape": {"shape": []}}),
    }


def _parameters(runtime: str, options: Mapping[str, Any], threads: int) -> dict[str, str]:
    count = str(options["threads"] or threads)
    if runtime == "onnxruntime":
        return {"intra_op_thread_count": count, "inter_op_thread_count": "1"}
    given = {"INFERENCE_NUM_THREADS": count, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1"}
    match options["precision"]:
        case "f32":
            return given
        case "bf16":
            return {**given, "HINT_BF16": "YES"}
        case precision:
            raise NotApplicable(f"Triton's OpenVINO backend can't be told to compute in {precision}. {ELSEWHERE}")


def _remark(runtime: str, options: Mapping[str, Any], signature: Signature) -> str:
    """What the configuration can't ask for, as a comment."""
    if runtime != "openvino":
        return ""
    said = ""
    if options["precision"] == "f32":
        said += (
            "# Measured with floats in float32, which this backend can't be told: a CPU with bfloat16 takes that,\n"
            "# and answers a little differently. Hold it to the samples of the bundle.\n"
        )
    if free := [tensor.name for tensor in signature.inputs if tensor.free]:
        said += (
            f"# Measured compiled for the sizes of inputs that came, where {' and '.join(free)} has free ones. This\n"
            "# backend compiles one model for all, some of which are slower by a fourth: where sizes are always the\n"
            "# same, export the model with these.\n"
        )
    return said


def _text(message: Mapping[str, Any], depth: int = 0) -> str:
    """A message in protobuf's text format; every name is escaped."""
    from google.protobuf.text_encoding import CEscape

    indent, lines = "  " * depth, []
    for key, value in message.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Mapping):
                lines.append(f"{indent}{key} {{\n{_text(one, depth + 1)}{indent}}}\n")
            elif isinstance(one, str) and not isinstance(one, _Word):
                lines.append(f'{indent}{key}: "{CEscape(one.encode(), as_utf8=False)}"\n')
            else:
                lines.append(f"{indent}{key}: {one}\n")
    return "".join(lines)
