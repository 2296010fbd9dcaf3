"""Files are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .parameters import InputError


def write_whole(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> Path:
    """Write a file beside its place and move it there once it is complete and on the disk.

    Raises
    ------
    InputError
        If it cannot be written (a full disk, no permission); what stood there before still stands.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(number, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror or error}). "
            "Free some space or give another folder with -p runs FOLDER; nothing is left half written."
        ) from None
    finally:
        if temporary and Path(temporary).exists():
            Path(temporary).unlink()
    return path
