"""`cbs package-info`: who signed an enclave, and what it is, for a manifest's package or a policy."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from cli.files import read_file
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.sigstruct import Sigstruct
from confidential_bookstore.errors import SigstructInvalid

_MAGIC = b"\x7fELF"
_ZIP = b"PK\x03\x04"
_START = bytes.fromhex("06000000e10000000000010000000000")  # SIGSTRUCT.HEADER, Intel SDM volume 3D


def find_sigstruct(content: bytes) -> Sigstruct:
    """The one valid SIGSTRUCT: the file itself (ours, Gramine's .sig), or somewhere in an ELF file.

    Open Enclave and EGo keep it in section .oeinfo, Intel's SGX SDK and Occlum in .note.sgxmeta. It is found by its
    first 16 bytes, and counts if the signature in it is right; so no format of theirs needs to be known.

    Raises:
        SigstructInvalid: there is none, or there are several different ones.
    """
    if not content.startswith(_MAGIC):
        return _alone(content)
    found: set[Sigstruct] = set()
    start = content.find(_START)
    while start >= 0:
        # These bytes occur in code as well, and an enclave that is not signed has an empty SIGSTRUCT.
        with contextlib.suppress(SigstructInvalid):
            found.add(sigstruct.parse(content[start : start + sigstruct.SIZE]))
        start = content.find(_START, start + 1)
    if len(found) != 1:
        raise SigstructInvalid(
            "the file holds no single signed enclave", got=len(found), expected=1, hint="is the enclave signed?"
        )
    return found.pop()


def _alone(content: bytes) -> Sigstruct:
    if content.startswith(_ZIP):
        raise SigstructInvalid(
            "the file is an image without its signature", hint="give NAME.sig, or use `cbs enclave info NAME.enclave`"
        )
    return sigstruct.parse(content)


def describe(file: Path) -> dict[str, object]:
    """Do the work; what is returned is what the command prints. As JSON it is a policy.

    Raises:
        ConfigurationError: the file cannot be read.
        SigstructInvalid: it holds no signed enclave.
    """
    signed = find_sigstruct(read_file(file, "the enclave"))
    return {
        "UniqueID": signed.mr_enclave.hex(),
        "SignerID": signed.mr_signer.hex(),
        "ProductID": signed.product_id,
        "SecurityVersion": signed.security_version,
        "Debug": signed.debug,
    }


def command(
    file: Annotated[Path, typer.Argument(help="A SIGSTRUCT (.sig), or a signed enclave (ELF).", metavar="FILE")],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Show UniqueID, SignerID, ProductID and SecurityVersion of a signed enclave; its signature is checked."""
    show(describe(file), output)
