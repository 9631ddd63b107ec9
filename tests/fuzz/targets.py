"""What is fuzzed: each target gives bytes of a stranger to one reader, and knows what it may answer.

`check` runs one input: the reader accepts it or refuses it with an error of the project, within a second of CPU time
and 64 MiB of memory. Everything else is a finding.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError
from grpclib.stream import recv_message
from multidict import MultiDict

from confidential_bookstore.api.marblerun.v1 import marble_pb2
from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import (
    AttestationError,
    BookstoreError,
    ConfigurationError,
    CoordinatorUntrusted,
    InvalidRequest,
    ManifestError,
    RecoveryError,
    SealedStateError,
    SigstructInvalid,
    TemplateError,
    UpdateError,
)
from confidential_bookstore.marble.generations import Generations
from confidential_bookstore.secret import Secret
from coordinator.client_api import features, generations, manifests, recovery, secrets, status
from coordinator.client_api.routes import Incoming
from coordinator.deployment.builders import Builders
from coordinator.deployment.deployment import Deployment
from coordinator.manifest import load_manifest
from coordinator.manifest.package_update import read_package_update
from coordinator.manifest.template import TemplateKind, parse_template, template_data
from coordinator.marble_api import MarbleApi
from coordinator.monitoring.events import EventLog
from coordinator.monitoring.metrics import ActivationCounters, GrpcMetrics
from coordinator.pki.authority import Authority
from coordinator.pki.certificate_request import requested_names
from coordinator.recovery.data_key import DataKey, RecoveryData
from coordinator.recovery.session import Recovered, RecoverySession
from coordinator.sealing import format as sealed_format
from coordinator.sealing.directory import DATA_FILE, JOURNAL, KEY_FILE, DirectoryStore
from coordinator.secret_value import SecretType, SecretValue

MOST_SECONDS = 1.0  # of CPU time
MOST_BYTES = 64 * 1024 * 1024
SEEDS = Path(__file__).parent / "seeds"

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
DATA_KEY = bytes(range(32))
RESERVED_NAMES = ("bookstore", "bookthief")


@dataclasses.dataclass(frozen=True)
class Target:
    """`run` returns False for what was refused without an error, and raises `refusals` for the rest."""

    run: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (BookstoreError,)
    longest: int = 16 * 1024  # bytes of an input
    words: tuple[str, ...] = ()  # what random bytes would never spell


def check(name: str, data: bytes) -> bool:
    """Whether the input was accepted.

    Raises:
        Exception: whatever is not among the target's refusals.
        AssertionError: it took too long, or too much memory.
    """
    target = TARGETS[name]
    resident, peak, began = _resident(), _peak(), time.process_time()
    try:
        accepted = target.run(data) is not False
    except target.refusals:
        accepted = False
    took, highest = time.process_time() - began, _peak()
    assert took <= MOST_SECONDS, f"{took:.1f} seconds for {len(data)} bytes"
    grown = highest - resident if highest > peak else 0
    assert grown <= MOST_BYTES, f"{grown >> 20} MiB for {len(data)} bytes"
    return accepted


def warm_up(name: str) -> None:
    """Runs the seeds once: what is made once is then there, and counts in no measurement."""
    target = TARGETS[name]
    for data in seeds(name).values():
        with contextlib.suppress(*target.refusals):
            target.run(data)


def seeds(name: str) -> dict[str, bytes]:
    """The inputs to begin with, by file name."""
    return {path.name: path.read_bytes() for path in sorted((SEEDS / name).iterdir())}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _strict_manifest(data: bytes) -> None:
    assert load_manifest(data).raw == data


def _tolerant_manifest(data: bytes) -> None:
    assert load_manifest(data, tolerant=True).raw == data


def _template(data: bytes) -> bool:
    """As a file and as a variable; accepted if either is."""
    text, done = data.decode("utf-8", "replace"), False
    template = parse_template(text)
    for kind in TemplateKind:
        try:
            done = isinstance(template.render(_template_data(), kind), bytes)
        except TemplateError:
            continue
    return done


@functools.cache
def _template_data() -> Any:
    def secret(kind: SecretType, value: bytes, certificate: bytes | None = None) -> SecretValue:
        return SecretValue(type=kind, certificate=certificate, private=Secret(value), public=Secret(value))

    der = b"0" * 1024
    present = {
        "key": secret(SecretType.SYMMETRIC_KEY, bytes(range(16))),
        "tls": secret(SecretType.CERT_ECDSA, der, der),
        "note": secret(SecretType.PLAIN, b"hello 'world'"),
        "empty": secret(SecretType.PLAIN, b""),
    }
    return template_data(present, {"RootCA": secret(SecretType.CERT_ECDSA, b"", der)}, present)


def _certificate_request(data: bytes) -> None:
    requested_names(data, trust_domain="marbles.internal", reserved_names=RESERVED_NAMES)


@functools.cache
def _request_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _certificate_names(data: bytes) -> None:
    """A request that is signed, with these bytes for its names."""
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, data)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=False).sign(_request_key(), hashes.SHA256())
    _certificate_request(request.public_bytes(Encoding.DER))


def _quote(data: bytes) -> None:
    quote = parse_quote(data)
    assert parse_quote(quote.raw) == quote
    assert len(quote.report_data) == 64


@functools.cache
def _evidence() -> tuple[Verifier, list[tuple[bytes, Any, Any]], int]:
    """A verifier of a simulated machine, and genuine quotes with their collateral and claims."""
    machine = SimulatedPlatform.create()
    verifier = Verifier(TrustRoot.from_pem(machine.root_pem), SimpleNamespace())
    now = int(time.time())
    enclave = EnclaveIdentity(mr_enclave=b"E" * 32, mr_signer=b"S" * 32, product_id=3, security_version=2)
    domain = TdIdentity(mr_td=b"T" * 48)
    quotes = [
        machine.quote_sgx(enclave, bytes(64)),
        machine.quote_tdx(domain, bytes(64)),
        machine.quote_tdx(domain, bytes(64), version=5, body_type=3),
    ]
    cases = []
    for raw in quotes:
        collateral = machine.collateral(parse_quote(raw).tee)
        cases.append((raw, collateral, verifier.check(parse_quote(raw), collateral, bytes(64), now)))
    return verifier, cases, now


def _verdict(data: bytes) -> None:
    """Edits of genuine evidence: which quote (1 byte), then part (1), offset (2) and new byte (1) of each edit."""
    verifier, cases, now = _evidence()
    raw, collateral, claims = cases[data[0] % len(cases) if data else 0]
    parts: dict[str, bytearray] = {"quote": bytearray(raw)}
    whole = json.loads(collateral.to_json())
    fields = {name: getattr(collateral, name) for name in whole if getattr(collateral, name) is not None}
    parts |= {name: bytearray(_bytes_of(value)) for name, value in sorted(fields.items())}
    names = list(parts)
    for start in range(1, len(data) - 3, 4):
        part = parts[names[data[start] % len(names)]]
        part[int.from_bytes(data[start + 1 : start + 3], "little") % len(part)] = data[start + 3]
    edited = {
        name: bytes(parts[name]) if isinstance(value, bytes) else parts[name].decode("latin-1")
        for name, value in fields.items()
    }
    found = verifier.check(parse_quote(bytes(parts["quote"])), dcap_qvl.QuoteCollateralV3(**edited), bytes(64), now)
    # What is not signed may change: at most when a part of the evidence ends.
    assert dataclasses.replace(found, expires=claims.expires) == claims


def _bytes_of(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


def _recovery_data(data: bytes) -> bool:
    read = RecoveryData.read(data)
    assert RecoveryData.read(read.write()).shares == read.shares
    return bool(read.shares)


@functools.cache
def _public_key() -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(65537, (1 << 1023) + 1155).public_key()


def _recovery_session(data: bytes) -> bool:
    """Uploads: the length of the secret (1 byte), the secret, and its last byte once more as the signature."""
    head, _, uploads = data.partition(b"\n")
    session = RecoverySession(head, lambda key: {"state": b"3"} if key == DATA_KEY else None)
    taken = False
    for _ in range(40):
        if not uploads:
            break
        secret, uploads = uploads[1 : uploads[0] + 1], uploads[uploads[0] + 1 :]
        try:
            outcome = session.upload(secret, secret[-1:], lambda _: ({"holder": _public_key()}, 0))
        except RecoveryError:
            continue
        assert not isinstance(outcome, Recovered)  # nobody has signed
        taken = True
    return taken


def _sealed_data(data: bytes) -> bool:
    sealed_format.recovery_data_of(data)
    sealed_format.key_info(data)
    assert sealed_format.unwrap_key(data, Secret(DATA_KEY), bound_to=b"") is None
    return sealed_format.open_sealed_data(data, DATA_KEY) is not None


def _sealed_content(data: bytes) -> None:
    """What stands in a file that was sealed with the right key."""
    nonce = bytes(12)
    box = nonce + sealed_format.AESGCM(DATA_KEY).encrypt(nonce, data, None)
    records = sealed_format.open_sealed_data(b"\4\0\0\0null" + box, DATA_KEY)
    assert records is not None
    again = sealed_format.seal_records(records, DataKey(Secret(DATA_KEY)))
    assert sealed_format.open_sealed_data(again, DATA_KEY) == records


class _Files:
    """A file system that forgets nothing and has no disk."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content

    def read(self, path: Path) -> bytes | None:
        return self.content.get(path.name)

    def write(self, path: Path, content: bytes) -> None:
        self.content[path.name] = content

    def rename(self, old: Path, new: Path) -> None:
        self.content[new.name] = self.content.pop(old.name)

    def remove(self, path: Path) -> None:
        self.content.pop(path.name, None)

    def sync(self, directory: Path) -> None:
        pass


def _journal(data: bytes) -> None:
    """A damaged journal leaves the pair as it is."""
    files = _Files({JOURNAL: data, DATA_FILE: b"data", KEY_FILE: b"key"})
    try:
        pair = DirectoryStore(Path("sealed"), files=files).read()
    except SealedStateError:
        assert files.content == {JOURNAL: data, DATA_FILE: b"data", KEY_FILE: b"key"}
        raise
    assert pair is not None
    assert JOURNAL not in files.content


def _json_body(data: bytes) -> bool:
    """Every reader of bodies, and those of queries; accepted if any of them is content."""
    incoming = Incoming(query=MultiDict(), body=data)
    query = MultiDict({name: data.decode("utf-8", "replace") for name in ("s", "nonce", "known")})
    asking = Incoming(query=query, body=b"")
    taken = False
    for read, request in (
        *((each, asking) for each in (secrets.read_names, status.read_nonce, generations.read_known)),
        (manifests.read_manifest, incoming),
        (features.read_quote, incoming),
        (features.read_counter, incoming),
        (recovery.read_upload, incoming),
        (secrets.read_uploads, incoming),
        (secrets.read_uploads_v1, incoming),
    ):
        try:
            read(request)
        except InvalidRequest:
            continue
        taken = request is incoming or taken
    return taken


def _package_update(data: bytes) -> bool:
    """Strict and tolerant; a full manifest is none."""
    lenient = read_package_update(data, tolerant=True)
    return lenient is not None and read_package_update(data) == lenient


class _Stream:
    """The server's side of a call, whose frames are given, by a peer that has shown some certificate."""

    def __init__(self, frames: bytes) -> None:
        self.frames = frames
        self.sent: list[Any] = []
        shown = SimpleNamespace(getpeercert=lambda binary_form: b"DER")
        transport = SimpleNamespace(get_extra_info=lambda name, default=None: shown)
        self.peer = SimpleNamespace(_transport=transport)

    async def recv_data(self, size: int) -> bytes:
        data, self.frames = self.frames[:size], self.frames[size:]
        return data

    async def recv_message(self) -> Any:
        return await recv_message(self, ProtoCodec(), marble_pb2.ActivationReq)

    async def send_message(self, message: Any) -> None:
        self.sent.append(message)


@functools.cache
def _coordinator() -> tuple[asyncio.Runner, MarbleApi]:
    """One that does not verify quotes, so that what comes after them is reached."""
    document = {
        "Packages": {"shop": {"SignerID": "5f" * 32, "ProductID": 3, "SecurityVersion": 1}},
        "Marbles": {
            "bookstore": {"Package": "shop", "Parameters": {"Env": {"OWN": "{{ hex .Secrets.own }}"}}},
            "bookthief": {"Package": "shop"},
        },
        "Secrets": {"own": {"Type": "symmetric-key", "Size": 128}},
    }
    authority = Authority.create(dns_names=["localhost"], now=NOW)
    deployment = Deployment.begin(authority, Secret(bytes(32)))
    deployment, _ = deployment.accept_manifest(json.dumps(document).encode(), NOW)
    api = MarbleApi(
        live=SimpleNamespace(current=deployment),
        verifier=None,
        events=EventLog(),
        counters=ActivationCounters(),
        calls=GrpcMetrics(),
        builders=Builders(),
        trust_domain="marbles.internal",
        leaf_lifetime=dt.timedelta(hours=1),
    )
    return asyncio.Runner(), api


def _activation(data: bytes) -> bool:
    """The frames of one call."""
    runner, api = _coordinator()
    handler = api.__mapping__()["/rpc.Marble/Activate"]
    stream = _Stream(data)
    runner.run(handler.func(stream))
    return len(stream.sent) == 1


def _generations(data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise CoordinatorUntrusted("no JSON") from None
    parsed = Generations.parse(value)
    assert parsed.accepted_roots(0).startswith(b"-----BEGIN CERTIFICATE-----")
    deadline = parsed.next_deadline(0)
    assert deadline is None or deadline > 0


def _sigstruct(data: bytes) -> None:
    signed = sigstruct.parse(data)
    assert len(signed.mr_enclave) == len(signed.mr_signer) == 32


def _enclave_json(data: bytes) -> None:
    config = EnclaveConfig.parse(data)
    assert 0 <= config.product_id <= 0xFFFF


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_MANIFEST_WORDS = _words(
    "Packages Infrastructures Marbles Secrets Users Roles RecoveryKeys TLS Config SignerID UniqueID ProductID "
    "SecurityVersion Debug RTMRs AcceptedTCBStatuses AcceptedAdvisories Package Parameters Files Env Argv Data "
    "Encoding NoTemplates base64 hex string Type Size Shared UserDefined ValidFor Cert symmetric-key cert- "
    "ecdsa cert-ed25519 plain Certificate ResourceType ResourceNames Actions Outgoing Incoming Addr Port "
    "DisableClientAuth SealMode FeatureGates UpdateThreshold RecoveryThreshold RotateRootSecret MaxActivations "
    "Subject CommonName DNSNames IPAddresses URIs NotAfter KeyUsage ExtKeyUsage IsCA MaxPathLen null true "
    "false CPUSVN QESVN PCESVN RootCA"
)
_TEMPLATE_WORDS = _words(
    "{{ }} {{- -}} /* */ .Secrets .MarbleRun .Previous .Cert .Private .Public .Type pem hex raw base64 string js html "
    "urlquery print printf println len index slice and or not eq ne lt le gt ge call if else with range end define "
    "template block break continue $x := $ %s %q %x %d %v %c %U %e %g %% ` 'a' 0x1p-2 -1 nil true"
)
_BODY_WORDS = _words(
    "manifest secrets Cert Private Key recoverySecret recoverySecretSignature sgxQuote name value null [] {} : , "
    "\\u017f 18446744073709551615 -0 1e3 NaN \\ud800"
)
_ENCLAVE_WORDS = _words(
    "name module extra productID securityVersion debug env value fromHost coordinator signerID true false null 65535"
)
_GENERATION_WORDS = ("generation", "marbleRoot", "previous", "until", "revoked", "1e999", "NaN", "null", "-1", "true")

TARGETS = {
    "strict_manifest": Target(_strict_manifest, (ManifestError,), words=_MANIFEST_WORDS + _TEMPLATE_WORDS),
    "tolerant_manifest": Target(_tolerant_manifest, (ManifestError,), words=_MANIFEST_WORDS + _TEMPLATE_WORDS),
    "template": Target(_template, (TemplateError,), longest=4096, words=_TEMPLATE_WORDS),
    "certificate_request": Target(_certificate_request, (InvalidRequest,)),
    "certificate_names": Target(_certificate_names, (InvalidRequest,), longest=4096, words=RESERVED_NAMES),
    "quote": Target(_quote, (AttestationError,)),
    "verdict": Target(_verdict, (AttestationError,), longest=256),
    "recovery_data": Target(_recovery_data, (), words=("null", "true", "[]", "{}")),
    "recovery_session": Target(_recovery_session, (), longest=4096),
    "sealed_data": Target(_sealed_data, (SealedStateError,)),
    "sealed_content": Target(_sealed_content, (SealedStateError,), words=("null", "AAAA", "=", "{", "}")),
    "journal": Target(_journal, (SealedStateError,), words=("cbspair1", "\xff\xff\xff\xff")),
    "json_body": Target(_json_body, (), words=_BODY_WORDS),
    "package_update": Target(_package_update, (ManifestError, UpdateError), words=_MANIFEST_WORDS),
    "activation": Target(_activation, (GRPCError,), words=RESERVED_NAMES),
    "generations": Target(_generations, (CoordinatorUntrusted,), words=_GENERATION_WORDS),
    "sigstruct": Target(_sigstruct, (SigstructInvalid,), longest=2048),
    "enclave_json": Target(_enclave_json, (ConfigurationError,), words=_ENCLAVE_WORDS),
}
