"""The enclave image: one deterministic zip with all that the enclave runs, except interpreter and standard library.

The same sources and the same installed wheels give the same bytes, wherever and whenever they are built: entries are
sorted, stored and dated 1980; byte code names files by their place in the image, and is written in marshal version 2,
whose output does not depend on what else the building process did.
"""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from confidential_bookstore.attestation.enclave import (
    CONFIG_RESOURCE,
    MEASURED_PACKAGE,
    TRUST_ROOT_RESOURCE,
    EnclaveConfig,
)
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation import bootstrap, dependencies
from confidential_bookstore.errors import ConfigurationError, ImageInvalid

LIBRARY = "confidential_bookstore"
# The simulated CPU is outside of every enclave, and so are who owns it and the documents that the policy is made from.
_OUTSIDE = (f"{LIBRARY}/attestation/simulation/", f"{LIBRARY}/owner/", f"{LIBRARY}/policy/smi/")
_DATE = (1980, 1, 1, 0, 0, 0)
_MARSHAL_VERSION = 2
_UNCHECKED_HASH = 0b01  # PEP 552: valid by its hash, which is not checked against a source file
_OWN_SUFFIXES = (".py", ".json", ".html", ".css", ".js", ".svg", ".sql", ".pem")


def build_image(config_path: Path, project_root: Path, trust_root_pem: bytes) -> bytes:
    """Build the image of the enclave that `config_path` (an `enclave.json`) describes.

    Args:
        config_path: taken into the image as it is.
        project_root: the folder that holds the sources and `pyproject.toml`.
        trust_root_pem: the root certificate that the enclave pins; empty for Intel's.

    Raises:
        ConfigurationError: the configuration, the sources or the installed dependencies are not in order.
    """
    try:
        config_text = config_path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {config_path}", got=str(error)) from error
    config = EnclaveConfig.parse(config_text, str(config_path))
    if trust_root_pem:
        TrustRoot.from_pem(trust_root_pem)
    sources: dict[str, bytes] = {}
    for distribution in dependencies.closure(dependencies.requirements(project_root, config.extra)).values():
        sources.update((file.name, file.path.read_bytes()) for file in dependencies.files(distribution))
    sources.update(_package(project_root, LIBRARY))
    sources.update(_package(project_root, config.module.replace(".", "/")))
    if f"{config.module.replace('.', '/')}/__main__.py" not in sources:
        raise ConfigurationError(f"{config_path}: module is not a package with a __main__", got=config.module)
    entries = dict(_compiled(name, content) for name, content in sources.items())
    native = sorted(name for name in entries if name.endswith(".so") or ".libs/" in name)
    entries |= {
        f"{MEASURED_PACKAGE}/{CONFIG_RESOURCE}": config_text,
        f"{MEASURED_PACKAGE}/{TRUST_ROOT_RESOURCE}": trust_root_pem,
        bootstrap.NATIVE_PATH: json.dumps(native).encode(),
    }
    entries |= dict([_compiled(f"{MEASURED_PACKAGE}/__init__.py", b""), _bootstrap()])
    return _archive(entries)


def read_config(image: bytes) -> EnclaveConfig:
    """The `enclave.json` in an image.

    Raises:
        ImageInvalid: not an enclave image.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(image)) as archive:
            text = archive.read(f"{MEASURED_PACKAGE}/{CONFIG_RESOURCE}")
        return EnclaveConfig.parse(text, f"{MEASURED_PACKAGE}/{CONFIG_RESOURCE}")
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError, ConfigurationError) as error:
        raise ImageInvalid("not an enclave image", got=str(error)) from error


def _package(project_root: Path, folder: str) -> Iterator[tuple[str, bytes]]:
    """The files of one package of the project, and the `__init__` of those that contain it."""
    for parent in Path(folder).parents:
        if (init := project_root / parent / "__init__.py").is_file() and parent != Path():
            yield str(parent / "__init__.py"), init.read_bytes()
    for path in (project_root / folder).rglob("*"):
        name = path.relative_to(project_root).as_posix()
        if path.suffix in _OWN_SUFFIXES and "__pycache__" not in path.parts and not name.startswith(_OUTSIDE):
            yield name, path.read_bytes()


def _bootstrap() -> tuple[str, bytes]:
    return _compiled("__main__.py", Path(bootstrap.__file__).read_bytes())


def _compiled(name: str, content: bytes) -> tuple[str, bytes]:
    """A module's byte code; anything else as it is."""
    if not name.endswith(".py"):
        return name, content
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # or the result would depend on which warnings the caller makes errors
            code = compile(content, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        return name, content  # some distributions carry files for other versions of Python
    try:
        marshalled = marshal.dumps(code, _MARSHAL_VERSION)
    except ValueError:
        return name, content  # a constant that this version has no form for, such as Python 3.14's slices
    header = importlib.util.MAGIC_NUMBER + struct.pack("<I", _UNCHECKED_HASH) + importlib.util.source_hash(content)
    return f"{name}c", header + marshalled


def _archive(entries: Mapping[str, bytes]) -> bytes:
    # Namespace packages (google/) exist for zipimport only if the archive lists them as folders.
    folders = {f"{parent}/" for name in entries for parent in Path(name).parents if parent != Path()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted({*entries, *folders}):
            archive.writestr(zipfile.ZipInfo(name, _DATE), entries.get(name, b""))
    return buffer.getvalue()
