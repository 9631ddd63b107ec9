"""MRENCLAVE: every part counts, and what does not run does not."""

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest

from confidential_bookstore.attestation.simulation.measurement import Interpreter, measure, mr_enclave
from confidential_bookstore.errors import EnclaveError

IMAGE = b"image"


def digest(text):
    return hashlib.sha256(text.encode()).digest()


@pytest.fixture
def interpreter(tmp_path):
    """A small stand-in for an installed interpreter."""
    library = tmp_path / "lib" / "python3.x"
    files = {
        "bin/python": "program",
        "lib/libpython.so": "library",
        "lib/python3.x/os.py": "import sys",
        "lib/python3.x/json/__init__.py": "",
        "lib/python3.x/lib-dynload/_ssl.so": "native",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return Interpreter(
        programs=(tmp_path / "bin/python", tmp_path / "lib/libpython.so"),
        search_path=(tmp_path / "lib/python3x.zip", library, library / "lib-dynload"),
    )


def test_it_is_a_pure_function_of_three_digests():
    parts = {"interpreter": digest("i"), "standard_library": digest("s"), "image": digest("e")}
    assert mr_enclave(**parts) == mr_enclave(**parts)
    assert len({mr_enclave(**parts), *(mr_enclave(**parts | {name: digest("x")}) for name in parts)}) == 4


@pytest.mark.parametrize(
    "change",
    [
        "bin/python",
        "lib/libpython.so",
        "lib/python3.x/os.py",
        "lib/python3.x/new.py",
        "lib/python3.x/new.pyc",  # without its source, Python would take it
        "lib/python3.x/json/new.py",
        "lib/python3.x/lib-dynload/_ssl.so",
        "lib/python3.x/lib-dynload/new.so",
        "lib/python3x.zip",  # Python would look here first
    ],
)
def test_everything_that_could_be_imported_counts(interpreter, tmp_path, change):
    before = measure(IMAGE, interpreter)
    (tmp_path / change).write_text("changed")
    assert measure(IMAGE, interpreter) != before


@pytest.mark.parametrize("change", ["__pycache__/os.pyc", "site-packages/pip.py", "test/test_os.py", "README.txt"])
def test_what_cannot_be_imported_does_not(interpreter, tmp_path, change):
    before = measure(IMAGE, interpreter)
    path = tmp_path / "lib/python3.x" / change
    path.parent.mkdir(exist_ok=True)
    path.write_text("changed")
    assert measure(IMAGE, interpreter) == before


def test_a_moved_file_counts(interpreter, tmp_path):
    before = measure(IMAGE, interpreter)
    library = tmp_path / "lib/python3.x"
    (library / "os.py").rename(library / "so.py")
    assert measure(IMAGE, interpreter) != before


def test_the_image_counts(interpreter):
    assert measure(b"image", interpreter) != measure(b"image ", interpreter)


def test_what_cannot_be_read_is_an_error(interpreter, tmp_path):
    (tmp_path / "bin/python").unlink()
    with pytest.raises(EnclaveError, match="cannot measure"):
        measure(IMAGE, interpreter)


def test_the_current_interpreter_is_not_the_virtual_environment_s():
    current = Interpreter.current()
    assert current.executable.is_file()
    assert not current.executable.is_symlink()
    assert Path(os.__file__).parent.resolve() in [path.resolve() for path in current.search_path]
    assert not any("site-packages" in str(path) for path in current.search_path)
    if sys.prefix != sys.base_prefix:
        assert not any(path.is_relative_to(sys.prefix) for path in (*current.programs, *current.search_path))


def test_it_is_quick_and_repeatable():
    current, image = Interpreter.current(), bytes(80 << 20)
    first = measure(image, current)
    started = time.perf_counter()
    assert measure(image, current) == first
    assert time.perf_counter() - started < 2  # a tenth of a second on an idle machine
