"""What MLServer and Triton take, in so far as strop writes it; `benchmarks/serving.py` holds this to what they ship."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_OPEN = {"anyOf": [{"additionalProperties": True, "type": "object"}, {"type": "null"}]}
_TENSORS = {"items": {"$ref": "#/$defs/MetadataTensor"}, "type": "array"}

MODEL_SETTINGS: dict[str, Any] = {
    "$defs": {
        "Datatype": {
            "enum": [
                "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32",
                "FP64", "BYTES",
            ],
            "type": "string",
        },
        "MetadataTensor": {
            "properties": {
                "name": {"type": "string"}, "datatype": {"$ref": "#/$defs/Datatype"},
                "shape": {"items": {"type": "integer"}, "type": "array"},
                "parameters": {"anyOf": [{"$ref": "#/$defs/Parameters"}, {"type": "null"}]},
            },
            "required": ["name", "datatype", "shape"], "type": "object",
        },
        "ModelParameters": {
            "additionalProperties": True,
            "properties": {
                "uri": _TEXT, "version": _TEXT, "environment_path": _TEXT, "environment_tarball": _TEXT,
                "inference_pool_gid": _TEXT, "autogenerate_inference_pool_gid": {"type": "boolean"}, "format": _TEXT,
                "content_type": _TEXT, "extra": _OPEN,
            },
            "type": "object",
        },
        "Parameters": {
            "additionalProperties": True, "properties": {"content_type": _TEXT, "headers": _OPEN}, "type": "object",
        },
    },
    "properties": {
        "implementation": {"type": "string"}, "name": {"type": "string"}, "platform": {"type": "string"},
        "versions": {"items": {"type": "string"}, "type": "array"}, "inputs": _TENSORS, "outputs": _TENSORS,
        "parallel_workers": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "warm_workers": {"type": "boolean"},
        "max_batch_size": {"type": "integer"}, "max_batch_time": {"type": "number"},
        "parameters": {"anyOf": [{"$ref": "#/$defs/ModelParameters"}, {"type": "null"}]},
        "cache_enabled": {"type": "boolean"},
    },
    "required": ["implementation"], "type": "object",
}  # fmt: skip
"""The JSON Schema of MLServer 1.7.1's `ModelSettings`, without its words."""

INT64, INT32, TEXT, MESSAGE, ENUM = 3, 5, 9, 11, 14  # types of fields, as protobuf numbers them
TRITON: dict[str, dict[str, list[Any]]] = {
    "ModelConfig": {
        "name": [TEXT, False], "backend": [TEXT, False], "default_model_filename": [TEXT, False],
        "max_batch_size": [INT32, False], "input": [MESSAGE, True], "output": [MESSAGE, True],
        "instance_group": [MESSAGE, True], "parameters": [MESSAGE, True], "dynamic_batching": [MESSAGE, False],
    },
    "ModelInput": {
        "name": [TEXT, False], "data_type": [ENUM, False], "dims": [INT64, True], "reshape": [MESSAGE, False],
    },
    "ModelOutput": {
        "name": [TEXT, False], "data_type": [ENUM, False], "dims": [INT64, True], "reshape": [MESSAGE, False],
    },
    "ModelInstanceGroup": {"count": [INT32, False], "kind": [ENUM, False]},
    "ModelConfig.ParametersEntry": {"key": [TEXT, False], "value": [MESSAGE, False]},
    "ModelParameter": {"string_value": [TEXT, False]},
    "ModelDynamicBatching": {},
    "ModelTensorReshape": {"shape": [INT64, True]},
}  # fmt: skip
"""Of each message of Triton's configuration: type and whether it repeats, by field."""
_OF = {
    "input": "ModelInput", "output": "ModelOutput", "instance_group": "ModelInstanceGroup",
    "parameters": "ModelConfig.ParametersEntry", "value": "ModelParameter", "dynamic_batching": "ModelDynamicBatching",
    "reshape": "ModelTensorReshape", "data_type": "DataType", "kind": "ModelInstanceGroup.Kind",
}  # fmt: skip
_WORDS = {
    "DataType": [f"TYPE_{name}" for name in (
        "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32",
        "FP64", "STRING", "BF16",
    )],
    "ModelInstanceGroup.Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"],
}  # fmt: skip


def bare(schema: Any) -> Any:
    """A JSON Schema without its words and defaults."""
    if isinstance(schema, dict):
        left_out = ("description", "title", "default", "deprecated")
        return {key: bare(value) for key, value in schema.items() if key not in left_out}
    return [bare(value) for value in schema] if isinstance(schema, list) else schema


_MAP = descriptor_pb2.MessageOptions(map_entry=True)


def triton_config(text: str) -> Any:
    """A `config.pbtxt`, read by protobuf as Triton reads it: an unknown field, word or type is an error."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    known = {name: file.message_type.add(name=name) for name in TRITON if "." not in name}
    known["ModelConfig.ParametersEntry"] = known["ModelConfig"].nested_type.add(name="ParametersEntry", options=_MAP)
    for name, words in _WORDS.items():
        outer, _, inner = name.rpartition(".")
        made = (known[outer].enum_type if outer else file.enum_type).add(name=inner)
        for number, word in enumerate(words):
            made.value.add(name=word, number=number)
    for name, fields in TRITON.items():
        for number, (field, (kind, many)) in enumerate(fields.items(), 1):
            of = f".inference.{_OF[field]}" if kind in (MESSAGE, ENUM) else None
            known[name].field.add(name=field, number=number, type=kind, label=3 if many else 1, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
    return text_format.Parse(text, config)
