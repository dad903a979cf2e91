"""Archives: what a zip file from outside may expand to."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

from .errors import UnsupportedModel
from .units import quantity

MOST, TIMES = 1 << 30, 100  # bytes; as much as the archive takes itself


def expanded(archive: zipfile.ZipFile) -> int:
    """Bytes that all members hold, inflated.

    They are as their entries say: `zipfile` gives no more of a member than that, and finds it broken where it has more.
    Members that lie over each other (Fifield 2019, "A better zip bomb") count one by one, as they are read.

    Raises:
        BadZipFile: One is packed in a way whose reader inflates without bounds; nobody whose files are read here does.
    """
    for info in archive.infolist():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile(f"{info.filename} is neither stored nor deflated")
    return sum(info.file_size for info in archive.infolist())


def check_expansion(path: Path, stream: IO[bytes] | None = None) -> None:
    """Refuse a model's archive that would fill the memory.

    Args:
        path: Of the file, by whose size it is judged.
        stream: An archive that lies within it, and is left as it was; None for the file itself.

    Raises:
        UnsupportedModel: It would.
        BadZipFile: It is none.
    """
    with zipfile.ZipFile(path if stream is None else stream) as archive:
        needed = expanded(archive)
    if stream is not None:
        stream.seek(0)
    size = path.stat().st_size
    if needed > (room := max(MOST, TIMES * size)):
        raise UnsupportedModel(
            f"The archive of a model may expand to {TIMES} times its size, or {quantity(MOST, 'bytes')}, and {path} "
            f"({quantity(size, 'bytes')}) expands to {quantity(needed, 'bytes')}, beyond {quantity(room, 'bytes')}. It "
            "may be made to fill your memory. If it is your own, save it without compression."
        )
