"""The two ways to start a program of the demo: in an enclave, or as it is. Both end with whoever started them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from confidential_bookstore.attestation.simulation.launcher import launch
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave

# Starts the program; the argument is the file that its output goes to.
Launch = Callable[[IO[bytes]], subprocess.Popen[bytes]]


def in_enclave(enclave: SignedEnclave, platform: SimulatedPlatform, environment: Mapping[str, str]) -> Launch:
    """Starts a signed image. `environment` is the host's, before the enclave's own filter.

    What is returned raises EnclaveError if image and SIGSTRUCT do not belong together.
    """

    def start(log: IO[bytes]) -> subprocess.Popen[bytes]:
        launched = launch(
            enclave.image, enclave.signature, platform, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        return launched.process

    return start


def as_it_is(command: Sequence[str], environment: Mapping[str, str]) -> Launch:
    """Starts an ordinary process, with this process' environment and `environment`.

    Its standard input is a pipe that nobody writes to: it ends when this process does, however that happens.
    """

    def start(log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=os.environ | dict(environment),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C in a terminal is for the demo, which decides what to pass on
        )

    return start
