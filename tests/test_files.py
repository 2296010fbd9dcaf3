"""A file is written whole or not at all."""

import subprocess
import sys

import pytest

from reprog_kit.files import write_whole
from reprog_kit.parameters import InputError


@pytest.mark.parametrize(
    ("content", "expected"),
    [("näht\n", "näht\n".encode()), (b"\x00\x01", b"\x00\x01"), (lambda file: file.write(b"called"), b"called")],
)
def test_text_bytes_and_writers_are_written_and_parents_made(tmp_path, content, expected):
    path = write_whole(tmp_path / "new" / "folder" / "a.bin", content)
    assert path.read_bytes() == expected
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_an_old_file_is_replaced_and_readable_by_others(tmp_path):
    path = tmp_path / "a"
    path.write_text("old and longer")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("bug"), KeyboardInterrupt()])
def test_a_writer_that_fails_halfway_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("I am a file")
    with pytest.raises(InputError, match=r"runs/a\.json could not be written .*-p runs FOLDER"):
        write_whole(tmp_path / "runs" / "a.json", "x")
    assert (tmp_path / "runs").read_text() == "I am a file"


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    """The kernel really refuses the write: no file may grow beyond 4 kB here."""
    pytest.importorskip("resource", reason="needs POSIX limits")
    path = tmp_path / "a"
    path.write_text("old")
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from reprog_kit.files import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_whole(Path(sys.argv[1]), b'x' * 100_000)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "InputError" in done.stderr
    assert "a could not be written (File too large)" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
