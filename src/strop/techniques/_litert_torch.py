"""A script for the environment of litert-torch, where strop is not: from a program of PyTorch to a .tflite file.

Its arguments: the process to end with; the program, a file of `torch.export.save`; the file to write; for each
input, how many samples a call will carry, or `fixed` where its first axis is none of samples.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def main(parent: str, program: str, made: str, *sizes: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
        if os.getppid() != int(parent):  # it ended before this one was ready to be told
            os._exit(1)
    import litert_torch
    import torch

    exported = torch.export.load(program)
    module, given = exported.module(), exported.example_inputs[0]
    whole = any(tensor.dtype == torch.int64 for tensor in given)  # else they would become int32
    few = tuple(one[: int(size)] if size != "fixed" else one for one, size in zip(given, sizes, strict=True))
    free = tuple({0: torch.export.Dim.AUTO} if size != "fixed" else {} for size in sizes)
    try:
        converted = litert_torch.convert(module, given, dynamic_shapes=free, enable_x64=whole)
    except Exception as error:  # it has no free sizes for all operators: the file can often be resized all the same
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        converted = litert_torch.convert(module, few, enable_x64=whole)
    converted.export(made)


if __name__ == "__main__":
    main(*sys.argv[1:])
