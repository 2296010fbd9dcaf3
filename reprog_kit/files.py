"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

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


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file; none is an empty one."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON-lines file."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
