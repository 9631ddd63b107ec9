"""Build, measure and sign an enclave; the two files that result, NAME.enclave and NAME.sig."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.image import build_image, read_config
from confidential_bookstore.attestation.simulation.measurement import Interpreter, measure
from confidential_bookstore.errors import ConfigurationError

IMAGE_SUFFIX, SIGNATURE_SUFFIX = ".enclave", ".sig"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEnclave:
    """An image and the SIGSTRUCT next to it. Whether they belong together, `sigstruct.initialise` decides."""

    config: EnclaveConfig
    image: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def read(cls, image_path: Path) -> SignedEnclave:
        """Read NAME.enclave and the NAME.sig next to it.

        Raises:
            ConfigurationError: one of them cannot be read.
            ImageInvalid: not an enclave image.
        """
        try:
            image = image_path.read_bytes()
            signature = image_path.with_suffix(SIGNATURE_SUFFIX).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                "cannot read the enclave", got=str(error), hint="make both files with `cbs enclave sign`"
            ) from error
        return cls(config=read_config(image), image=image, signature=signature)

    def write(self, directory: Path) -> Path:
        """Write both files, each atomically, and return the image's path.

        Raises:
            ConfigurationError: the directory cannot be written.
        """
        path = directory / f"{self.config.name}{IMAGE_SUFFIX}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _replace(path.with_suffix(SIGNATURE_SUFFIX), self.signature)
            _replace(path, self.image)
        except OSError as error:
            raise ConfigurationError("cannot write the enclave", got=str(error)) from error
        return path


def sign_enclave(
    config_path: Path, project_root: Path, key: rsa.RSAPrivateKey, trust_root_pem: bytes, *, date: dt.date
) -> SignedEnclave:
    """Build the image, measure it as it would run on this machine, and sign the measurement.

    Raises:
        ConfigurationError: as `build_image`.
        EnclaveError: the interpreter cannot be measured.
    """
    image = build_image(config_path, project_root, trust_root_pem)
    config = read_config(image)
    signature = sigstruct.make(
        key,
        measure(image, Interpreter.current()),
        product_id=config.product_id,
        security_version=config.security_version,
        debug=config.debug,
        date=date,
    )
    return SignedEnclave(config=config, image=image, signature=signature)


def find_project_root(config_path: Path) -> Path:
    """The nearest folder above an `enclave.json` that has a `pyproject.toml`.

    Raises:
        ConfigurationError: there is none.
    """
    for folder in config_path.resolve().parents:
        if (folder / "pyproject.toml").is_file():
            return folder
    raise ConfigurationError("no pyproject.toml in any folder above", got=config_path)


def _replace(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
