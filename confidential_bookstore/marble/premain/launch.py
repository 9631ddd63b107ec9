"""From a bare process to an activated program: what MarbleRun's premain does, with a verified coordinator.

MARBLE_TTLS_CONFIG is passed on like any other variable: whoever wants the connections that it describes reads it there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import structlog

from confidential_bookstore.errors import ConfigurationError, CoordinatorUnavailable
from confidential_bookstore.marble.activation import Activation, activate, load_or_create_uuid, write_files
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.marble.premain.program import (
    Program,
    find_program,
    fixed_digest,
    measured_program,
    passed_on,
)
from confidential_bookstore.marble.premain.setup import Setup, WithoutQuote
from confidential_bookstore.telemetry.logs import configure_logging

DEFAULT_TIMEOUT = 120.0
_WITHOUT_QUOTE = (
    "WARNING: --without-quote: this marble shows NO evidence of what it is. A coordinator that accepts it accepts"
    " anybody who asks; its secrets are not protected. Never use this for anything but tests."
)

_log = structlog.get_logger()


def launch(
    command: Sequence[str],
    make_setup: Callable[[MarbleSettings, Mapping[str, str]], Setup],
    environ: Mapping[str, str],
    *,
    timeout: float = DEFAULT_TIMEOUT,
) -> NoReturn:
    """Becomes the program.

    Args:
        command: the program, and what to tell it where the manifest has no Argv.
        make_setup: finds the platform and the trust in the coordinator.
        environ: settings as for every marble; the program gets it, too.
        timeout: seconds that the activation may take, with all attempts.

    Raises:
        ConfigurationError: a setting, the program, or a file of the manifest is not in order.
        PlatformError: there is no platform, or no quote to be had.
        ActivationDenied: the coordinator refused.
        CoordinatorUntrusted: it is not the one that is meant.
        CoordinatorUnavailable: it did not activate this marble in time.
    """
    settings = MarbleSettings.from_environ(environ)
    configure_logging(settings.marble_type, settings.log_format)
    if not command:
        raise ConfigurationError("no program to run", hint="-- PROGRAM [ARGUMENTS]")
    setup = make_setup(settings, environ)
    if isinstance(setup.platform, WithoutQuote):
        sys.stderr.write(_WITHOUT_QUOTE + "\n")
        _log.warning("premain.without_quote", reason="this marble shows no evidence of what it is")
    program = _program(command[0], setup, environ)
    activation = asyncio.run(_activated(settings, setup, timeout))
    arguments = program.arguments(command, activation.argv)
    write_files(activation.files)
    manifest = {name: value.reveal() for name, value in activation.env.items()}
    _log.info("premain.done", program=program.name, files=len(activation.files), variables=len(manifest))
    program.become(arguments, passed_on(environ, manifest))


def _program(name: str, setup: Setup, environ: Mapping[str, str]) -> Program:
    path = find_program(name, environ)
    if setup.config is not None and setup.platform.name == "simulated":
        return measured_program(name, path, fixed_digest(setup.config))
    return Program(name, path)


async def _activated(settings: MarbleSettings, setup: Setup, timeout: float) -> Activation:
    uuid = load_or_create_uuid(settings.uuid_file)
    _log.info("premain.activating", uuid=str(uuid), coordinator=settings.coordinator_address)
    try:
        async with asyncio.timeout(timeout):
            return await activate(settings, setup.platform, setup.trust, uuid)
    except TimeoutError as error:
        raise CoordinatorUnavailable(
            "the coordinator has not activated this marble in time",
            expected=f"within {timeout:g} s",
            hint="see the log for why it did not, or wait longer with --timeout",
        ) from error
