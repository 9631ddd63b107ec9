"""`python -m coordinator`: the coordinator inside its enclave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from typing import Final

from confidential_bookstore.attestation.enclave import MeasuredConfig
from confidential_bookstore.attestation.platforms import find_platform
from confidential_bookstore.errors import BookstoreError, ConfigurationError, NoPlatform
from confidential_bookstore.telemetry.logs import configure_logging
from coordinator.app import Coordinator, make_verifier, stop_signal
from coordinator.settings import CoordinatorSettings

MOST_FILES: Final = 4096


async def run(settings: CoordinatorSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop = stop_signal()
    platform, verifier = None, None
    if settings.interoperability:
        _require_no_platform()
    else:
        verifier = make_verifier(settings, MeasuredConfig.load())
        platform = find_platform()
    async with Coordinator(settings, platform=platform, verifier=verifier) as coordinator:
        await coordinator.serve(stop)


def _require_no_platform() -> None:
    """A machine that can attest is never used without."""
    with contextlib.suppress(NoPlatform):
        raise ConfigurationError(
            "OE_SIMULATION=1 stands against a platform that can attest",
            got=find_platform().name,
            hint="leave the variable out",
        )


def allow_connections() -> None:
    """Raises the number of files that this process may have open to what the listeners grant, if the host lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MOST_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES if hard < 0 else min(MOST_FILES, hard), hard))


def main() -> int:
    """The exit code."""
    allow_connections()
    try:
        settings = CoordinatorSettings.from_environ(os.environ)
        configure_logging("coordinator", settings.log_format, level=settings.log_level)
        asyncio.run(run(settings))
    except BookstoreError as error:
        sys.stderr.write(f"coordinator: {error.diagnostics()}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
