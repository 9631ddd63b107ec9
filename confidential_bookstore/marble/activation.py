"""Activation: a quote over a fresh key goes to the coordinator, certificates, secrets and configuration come back.

MarbleRun's protocol (`rpc.Marble/Activate`), unchanged: the TLS connection shows a self-signed certificate, and the
quote's report data is that certificate's hash, so the answer reaches the attested enclave and nobody who relays its
quote. The key is made for one activation and never used again. Waits as long as the coordinator is away or not ready;
gives up at once when it says no.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import grpc
import structlog

from confidential_bookstore.api.marblerun.v1 import marble_pb2, marble_pb2_grpc
from confidential_bookstore.attestation.binding import marble_report_data
from confidential_bookstore.attestation.platforms import Platform, gramine
from confidential_bookstore.attestation.platforms.device_files import DeviceFiles
from confidential_bookstore.errors import (
    ActivationDenied,
    ConfigurationError,
    CoordinatorUnavailable,
    CoordinatorUntrusted,
)
from confidential_bookstore.marble.activation_key import ActivationKey, new_activation_key
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, mesh_certificate, verify_coordinator
from confidential_bookstore.marble.credentials import pinned_credentials
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.marble.identity import Identity
from confidential_bookstore.secret import Secret

_ACTIVATE_SECONDS = 30.0
_ATTEMPT_SECONDS = 60.0
_LARGEST_ANSWER = 16 * 1024 * 1024
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 15.0
_GRAMINE_DEVICES = Path("/", gramine.DIRECTORY)
_NOT_YET = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DEADLINE_EXCEEDED}
)

_log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Activation:
    """What a marble has after activation. `env` includes the four MARBLE_PREDEFINED variables."""

    identity: Identity
    env: Mapping[str, Secret[str]]
    files: Mapping[str, Secret[bytes]]
    argv: tuple[str, ...]


async def activate(
    settings: MarbleSettings,
    platform: Platform,
    trust: CoordinatorTrust,
    uuid: UUID,
    *,
    sleep: Sleep = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
    attempts: int | None = None,
) -> Activation:
    """Activates, however long the coordinator takes to be there; `attempts` bounds it (None: no bound).

    Raises:
        ActivationDenied: the coordinator refused this marble.
        CoordinatorUntrusted: its evidence was not accepted.
        CoordinatorUnavailable: `attempts` were used up.
        PlatformError: no quote could be made.
    """
    wait = _FIRST_WAIT
    attempt = 1
    while True:
        try:
            return await activate_once(settings, platform, trust, uuid)
        except CoordinatorUnavailable as error:
            if attempts is not None and attempt >= attempts:
                raise
            pause = wait * (0.5 + jitter() / 2)
            _log.warning(
                "activation.waiting", reason=str(error), hint=error.hint, attempt=attempt, seconds=round(pause, 2)
            )
        await sleep(pause)
        wait = min(wait * 2, _LONGEST_WAIT)
        attempt += 1


async def activate_once(
    settings: MarbleSettings, platform: Platform, trust: CoordinatorTrust, uuid: UUID
) -> Activation:
    """Verifies the coordinator, then activates: one attempt of `activate`, with the same errors."""
    try:
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            return await _attempt(settings, platform, trust, uuid)
    except TimeoutError as error:  # each step has its own bound, but not against a peer that drips
        raise CoordinatorUnavailable(
            "the activation takes too long", expected=f"at most {_ATTEMPT_SECONDS:g} s"
        ) from error


async def _attempt(settings: MarbleSettings, platform: Platform, trust: CoordinatorTrust, uuid: UUID) -> Activation:
    verified = await verify_coordinator(settings.coordinator_client_address, trust)
    key = new_activation_key(settings.dns_names)
    mesh = await mesh_certificate(
        settings.coordinator_address, verified, chain_pem=key.certificate_pem, key_pem=key.private_key_pem
    )
    quote = await asyncio.to_thread(platform.quote, marble_report_data(key.certificate_der))
    request = marble_pb2.ActivationReq(
        Quote=quote, CSR=key.request_der, MarbleType=settings.marble_type, UUID=str(uuid)
    )
    answer = await _call(settings.coordinator_address, mesh.pem, mesh.server_name, key, request)
    env = _decoded(answer.Parameters.Env)
    identity = Identity.from_environment(
        {name: value.reveal() for name, value in env.items()},
        marble_type=settings.marble_type,
        uuid=str(uuid),
        coordinator_root=verified.root,
    )
    files = {path: Secret(bytes(content)) for path, content in answer.Parameters.Files.items()}
    return Activation(identity, env, files, tuple(answer.Parameters.Argv))


async def _call(
    address: str, root_pem: bytes, server_name: str, key: ActivationKey, request: marble_pb2.ActivationReq
) -> marble_pb2.ActivationResp:
    credentials = pinned_credentials(root_pem, chain_pem=key.certificate_pem, key_pem=key.private_key_pem)
    options = [
        ("grpc.ssl_target_name_override", server_name),
        ("grpc.max_receive_message_length", _LARGEST_ANSWER),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        try:
            stub = marble_pb2_grpc.MarbleStub(channel)
            answer: marble_pb2.ActivationResp = await stub.Activate(request, timeout=_ACTIVATE_SECONDS)
        except grpc.aio.AioRpcError as error:
            words = error.details() or error.code().name
            if error.code() in _NOT_YET:
                raise CoordinatorUnavailable(f"the coordinator does not activate now: {words}") from error
            raise ActivationDenied(f"the coordinator refused this marble: {words}", got=error.code().name) from error
    return answer


def _decoded(env: Mapping[str, bytes]) -> dict[str, Secret[str]]:
    decoded = {}
    for name in sorted(env):
        try:
            value = env[name].decode()
        except UnicodeDecodeError:
            raise CoordinatorUntrusted("an environment variable from the coordinator is not text", got=name) from None
        if not name or "=" in name or "\0" in name + value:
            raise CoordinatorUntrusted("an environment variable from the coordinator cannot be set", got=repr(name))
        decoded[name] = Secret(value)
    return decoded


def load_or_create_uuid(path: Path) -> UUID:
    """This marble's UUID: read from `path`, or made and kept there (0600) for the next start.

    Raises:
        ConfigurationError: the file holds something else, or cannot be written.
    """
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        made = uuid4()
        write_file(path, str(made).encode())
        return made
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("cannot read the UUID file", got=f"{path}: {error}") from error
    try:
        found = UUID(text)
    except ValueError:
        found = UUID(int=0)
    if not found.int:
        raise ConfigurationError("the UUID file holds no UUID", got=str(path), hint="remove it; a new one is made")
    return found


def write_files(files: Mapping[str, Secret[bytes]]) -> None:
    """Writes what the manifest says, in the order of the paths, keys of Gramine's protected files first.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    for name in sorted(files, key=lambda name: (not Path(name).is_relative_to(_GRAMINE_DEVICES), name)):
        write_file(Path(name), files[name].reveal())


def write_file(path: Path, content: bytes) -> None:
    """Replaces one file (0600, new directories 0700) in one step, or not at all.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        if path.is_relative_to(_GRAMINE_DEVICES):  # they take their content in one write and cannot be renamed
            DeviceFiles().write(path, content)
            return
        _make_directories(path.parent)
        # Not the process id: in a container that is the same at every start, also after a crash left the file behind.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            raise
    except OSError as error:
        raise ConfigurationError("cannot write a file", got=f"{path}: {error.strerror}") from error


def _make_directories(directory: Path) -> None:
    for missing in reversed([directory, *directory.parents]):
        if not missing.exists():
            missing.mkdir(mode=0o700)
