"""The image: deterministic, complete, and nothing else in it."""

import importlib.util
import io
import json
import marshal
import shutil
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.simulation import image
from confidential_bookstore.attestation.simulation.image import build_image, read_config
from confidential_bookstore.errors import ConfigurationError, ImageInvalid

REPOSITORY = Path(__file__).parents[2]
BUILD = """
import hashlib, pathlib, sys
from confidential_bookstore.attestation.simulation import image
from confidential_bookstore.attestation.simulation.image import build_image
root = pathlib.Path(sys.argv[1])
print(hashlib.sha256(build_image(root / "services/probe/enclave.json", root, b"")).hexdigest())
"""


@pytest.fixture(scope="module")
def archive(enclave):
    with zipfile.ZipFile(io.BytesIO(enclave.image)) as opened:
        yield opened


def test_two_clones_in_two_places_give_the_same_bytes(new_project, library, tmp_path):
    digests = set()
    for index, place in enumerate(["one", "a/deeper/place"]):
        folder = tmp_path / place
        folder.parent.mkdir(parents=True, exist_ok=True)
        new_project(folder)
        (folder / "confidential_bookstore").unlink()
        shutil.copytree(library, folder / "confidential_bookstore")
        if index:
            (folder / "confidential_bookstore" / "__pycache__").mkdir()
            (folder / "confidential_bookstore" / "__pycache__" / "stale.py").write_text("")
        said = subprocess.run(
            [sys.executable, "-c", BUILD, folder],
            cwd=REPOSITORY,
            env={"PYTHONHASHSEED": str(index), "TZ": f"UTC{index}"},
            capture_output=True,
            check=True,
        )
        digests.add(said.stdout)
    assert len(digests) == 1


def test_entries_are_sorted_stored_and_dated_1980(archive):
    entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted({entry.filename for entry in entries})
    assert {(entry.compress_type, entry.date_time) for entry in entries} == {
        (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
    }


def test_what_is_in_it(archive, platform, config_path):
    names = set(archive.namelist())
    assert names >= {
        "__main__.pyc",
        "measured/__init__.pyc",
        "services/__init__.pyc",
        "services/probe/__main__.pyc",
        "confidential_bookstore/errors.pyc",
        "confidential_bookstore/attestation/platforms/simulated.pyc",
        "cryptography/__init__.pyc",
        "cffi/__init__.pyc",  # a dependency's dependency
        "cryptography/",
    }
    assert archive.read("measured/trust_root.pem") == platform.root_pem
    assert archive.read("measured/enclave.json") == config_path.read_bytes()
    assert json.loads(archive.read("measured/native.json")) == sorted(name for name in names if name.endswith(".so"))


def test_what_is_not_in_it(archive):
    for name in archive.namelist():
        assert not name.startswith(("confidential_bookstore/attestation/simulation", "confidential_bookstore/owner"))
        assert "__pycache__" not in name
        assert not name.endswith((".pyi", ".h", "RECORD", "INSTALLER", "direct_url.json"))
        assert name.split("/")[0] not in {"pytest", "typer", "rich", "aiohttp", "grpc", "sqlalchemy"}


def test_nothing_of_the_build_folder_is_in_it(enclave, project):
    for place in (project, REPOSITORY, Path(sys.prefix)):
        assert str(place).encode() not in enclave.image


def test_byte_code_names_its_file_within_the_image(archive, library):
    content = archive.read("confidential_bookstore/errors.pyc")
    assert content[:8] == importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    source = (library / "errors.py").read_bytes()
    assert content[8:16] == importlib.util.source_hash(source)
    code = marshal.loads(content[16:])
    assert isinstance(code, types.CodeType)
    assert code.co_filename == "confidential_bookstore/errors.py"


def test_what_byte_code_cannot_express_stays_source(monkeypatch):
    def refuse(code, version):
        raise ValueError("unmarshallable object")  # as for the slices of Python 3.14

    assert image._compiled("x.py", b"x = 1")[0] == "x.pyc"
    assert image._compiled("x.py", b"for another Python") == ("x.py", b"for another Python")
    monkeypatch.setattr(image.marshal, "dumps", refuse)
    assert image._compiled("x.py", b"x = 1") == ("x.py", b"x = 1")


def test_byte_code_does_not_depend_on_warnings():
    invalid_escape = b"x = '\\d'"
    name, strict = image._compiled("x.py", invalid_escape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert image._compiled("x.py", invalid_escape) == (name, strict)
    assert name == "x.pyc"


def test_a_changed_source_changes_the_image(new_project, tmp_path, enclave, platform):
    config_path = new_project(tmp_path)
    assert build_image(config_path, tmp_path, platform.root_pem) == enclave.image
    main = config_path.parent / "__main__.py"
    main.write_bytes(main.read_bytes() + b"\n")
    assert build_image(config_path, tmp_path, platform.root_pem) != enclave.image


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": "missing"}, "a-distribution-that-nobody-installs"),
        ({"extra": "too-new"}, "9999"),
        ({"extra": "unknown"}, "no such extra"),
        ({"module": "services.nowhere"}, "services.nowhere"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_project_that_is_not_in_order_is_an_error(new_project, tmp_path, changes, message):
    config_path = new_project(tmp_path, **changes)
    with pytest.raises(ConfigurationError, match=message):
        build_image(config_path, tmp_path, b"")


def test_files_that_cannot_be_read_are_errors(new_project, tmp_path):
    config_path = new_project(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        build_image(tmp_path / "enclave.json", tmp_path, b"")
    with pytest.raises(ConfigurationError, match="certificate"):
        build_image(config_path, tmp_path, b"no certificate")
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(ConfigurationError, match="requirements"):
        build_image(config_path, tmp_path, b"")


def test_read_config(enclave):
    assert read_config(enclave.image).name == "probe"


@given(st.binary(max_size=300))
def test_read_config_refuses_anything_else(raw):
    with pytest.raises(ImageInvalid):
        read_config(raw)
