"""`python -m coordinator`: the coordinator inside its enclave."""

from __future__ import annotations

import asyncio
import os
import sys

from confidential_bookstore.attestation.enclave import MeasuredConfig
from confidential_bookstore.attestation.platforms import find_platform
from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.telemetry.logs import configure_logging
from coordinator.app import Coordinator, make_verifier
from coordinator.settings import CoordinatorSettings


async def run(settings: CoordinatorSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    verifier = make_verifier(settings, MeasuredConfig.load())
    async with Coordinator(settings, platform=find_platform(), verifier=verifier) as coordinator:
        await coordinator.serve()


def main() -> int:
    """The exit code."""
    try:
        settings = CoordinatorSettings.from_environ(os.environ)
        configure_logging("coordinator", settings.log_format)
        asyncio.run(run(settings))
    except BookstoreError as error:
        sys.stderr.write(f"coordinator: {error.diagnostics()}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
