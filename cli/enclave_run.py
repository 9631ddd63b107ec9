"""`cbs enclave run`: start a signed enclave on the simulated CPU, and stay with it until it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from confidential_bookstore.attestation.simulation.launcher import launch
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave
from confidential_bookstore.errors import ConfigurationError


def run(image: Path, platform: Path, env: Mapping[str, str], argv: Sequence[str] = ()) -> int:
    """Start the enclave, pass SIGTERM and SIGINT on to it, and return its exit code (128 + n if signal n ended it).

    Raises:
        ConfigurationError: image or platform cannot be read.
        EnclaveError: the SIGSTRUCT does not allow it to start.
    """
    enclave = SignedEnclave.read(image)
    launched = launch(enclave.image, enclave.signature, SimulatedPlatform.load(platform), env=env, argv=argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: launched.process.send_signal(number))
    code = launched.process.wait()
    return code if code >= 0 else 128 - code


def parse_variables(settings: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE each.

    Raises:
        ConfigurationError: one of them has another form.
    """
    variables = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not (name and separator):
            raise ConfigurationError("--env is malformed", got=repr(setting), expected="NAME=VALUE")
        variables[name] = value
    return variables


def command(
    image: Annotated[Path, typer.Argument(help="NAME.enclave, with NAME.sig next to it.", metavar="IMAGE")],
    argv: Annotated[list[str] | None, typer.Argument(help="Arguments of the enclave.", metavar="ARGS")] = None,
    *,
    platform: Annotated[Path, typer.Option(help="The simulated platform's folder.", metavar="DIR")],
    env: Annotated[
        list[str] | None,
        typer.Option(help="Set a variable; it enters if the enclave's configuration lets it.", metavar="NAME=VALUE"),
    ] = None,
) -> None:
    """Run a signed enclave on the simulated CPU."""
    raise typer.Exit(run(image, platform, {**os.environ, **parse_variables(env or [])}, argv or []))
