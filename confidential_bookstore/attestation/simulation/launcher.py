"""Starts enclaves: the loader, EINIT, and the CPU that signs quotes for what it measured.

The image is copied into sealed memory and started from there, so that what runs is what was measured. The enclave's
quotes and sealing keys come over a socket that only this one process inherits, and carry the measured identity.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import IO

import structlog

from confidential_bookstore.attestation.platforms.simulated import (
    COUNT,
    NOT_COUNTED,
    CounterRequest,
    QuoteRequest,
    SealingKeyRequest,
    decode_request,
)
from confidential_bookstore.attestation.simulation import bootstrap, sigstruct
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.measurement import FLAGS, Interpreter, measure
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import EnclaveError, PlatformError

REQUEST_LIMIT = 128  # bytes; longer packets are cut, and then refused like any malformed one
_log = structlog.get_logger()
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class LaunchedEnclave:
    """A running enclave. It ends with the process that launched it."""

    process: subprocess.Popen[bytes]
    identity: EnclaveIdentity


def launch(
    image: bytes,
    signature: bytes,
    platform: SimulatedPlatform,
    *,
    env: Mapping[str, str],
    argv: Sequence[str] = (),
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> LaunchedEnclave:
    """Measure an image and start it, if its SIGSTRUCT was made for that measurement.

    Args:
        image: what `build_image` made.
        signature: its SIGSTRUCT.
        platform: the CPU to simulate.
        env: the host's environment; the image decides which variables enter.
        argv: passed on to the enclave.
        stdout: as in `subprocess.Popen`.
        stderr: as in `subprocess.Popen`.

    Raises:
        SigstructInvalid: not a SIGSTRUCT, or its signature is wrong.
        MeasurementMismatch: the SIGSTRUCT is for something else. Nothing has run.
        EnclaveError: the interpreter cannot be measured or started.
    """
    interpreter = Interpreter.current()
    identity = sigstruct.initialise(signature, measure(image, interpreter))
    started: Future[subprocess.Popen[bytes]] = Future()

    def live() -> None:
        # The kernel ends an enclave when the *thread* that started it ends: this one stays until the enclave is gone.
        try:
            process, cpu = _start(image, interpreter, env=env, argv=argv, stdout=stdout, stderr=stderr)
        except (OSError, ValueError) as error:
            started.set_exception(EnclaveError("cannot start the enclave", got=str(error)))
            return
        started.set_result(process)
        serve(cpu, platform, identity)
        process.wait()

    threading.Thread(target=live, name=f"simulated CPU of {identity.mr_enclave.hex()[:8]}", daemon=True).start()
    return LaunchedEnclave(started.result(), identity)


def serve(connection: socket.socket, platform: SimulatedPlatform, identity: EnclaveIdentity) -> None:
    """Answer requests until the enclave closes its end or sends something malformed; then close the connection."""
    with connection, contextlib.suppress(OSError):
        while True:
            match decode_request(connection.recv(REQUEST_LIMIT)):
                case QuoteRequest(report_data):
                    connection.send(platform.quote_sgx(identity, report_data))
                case SealingKeyRequest(policy):
                    connection.send(platform.sealing_key(identity, policy))
                case CounterRequest(counter_id, value):
                    connection.send(_count(platform, identity, counter_id, value))
                case None:
                    return


def _count(platform: SimulatedPlatform, identity: EnclaveIdentity, counter_id: bytes, value: int) -> bytes:
    try:
        return COUNT.pack(platform.raise_counter(identity, counter_id, value))
    except PlatformError as error:
        _log.warning("an enclave's counter was not raised", reason=str(error))
        return NOT_COUNTED


def _start(
    image: bytes,
    interpreter: Interpreter,
    *,
    env: Mapping[str, str],
    argv: Sequence[str],
    stdout: int | IO[bytes] | None,
    stderr: int | IO[bytes] | None,
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process, and our end of its socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with theirs, _sealed("enclave", image) as image_file, _sealed("environment", _block(env)) as host_file:
            process = subprocess.Popen(
                [interpreter.executable, *FLAGS, f"/proc/self/fd/{image_file}", *argv],
                env={
                    bootstrap.CPU_VARIABLE: str(theirs.fileno()),
                    bootstrap.HOST_ENVIRONMENT_VARIABLE: str(host_file),
                },
                pass_fds=(image_file, host_file, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C in a terminal is for the launcher, which decides what to pass on
                stdout=stdout,
                stderr=stderr,
            )
    except BaseException:
        ours.close()
        raise
    return process, ours


def _block(environment: Mapping[str, str]) -> bytes:
    return b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())


@contextlib.contextmanager
def _sealed(name: str, content: bytes) -> Iterator[int]:
    """A descriptor of a file in memory that nobody can change any more."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        yield descriptor
    finally:
        os.close(descriptor)
