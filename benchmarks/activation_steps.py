"""The parts of an activation, alone in this process: the bare cryptography, and our own steps.

Times are CPU time of this thread. A handshake has two sides; only what the server does is counted.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import ssl
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from uuid import UUID

import dcap_qvl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from benchmarks.activation_load import Marble, new_marble
from confidential_bookstore.attestation.binding import marble_report_data
from confidential_bookstore.attestation.collateral import DirectoryCollateral
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.pki.names import DEFAULT_TRUST_DOMAIN
from confidential_bookstore.secret import Secret
from coordinator.deployment.activation import build_parameters
from coordinator.deployment.deployment import Deployment
from coordinator.pki.authority import Authority
from coordinator.transport.tls import AnyClientCertContext, ClientCertificate

Step = Callable[[], float]
"""Goes once; returns CPU seconds."""

Answer = Callable[[bytes], bytes]
"""One side of a handshake: takes what has arrived, gives what is to be sent."""

_RECORDS = 64 << 10
_CERTIFICATE = bytes(700)  # as many bytes as are signed for a marble's certificate
_DAY = dt.timedelta(days=1)


def bare_steps(machine: SimulatedPlatform) -> dict[str, Step]:
    """What no coordinator can do without: dcap-qvl's verdict, a P-384 key, a P-384 signature, a TLS 1.3 handshake."""
    marble, collateral = new_marble(machine), machine.collateral("SGX")
    verifier = dcap_qvl.QuoteVerifier(TrustRoot.from_pem(machine.root_pem).certificate_der)
    authority = _authority()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(authority.marble_root)
    context.use_privatekey(authority.intermediate_key)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.set_options(SSL.OP_NO_TICKET)

    def quote() -> None:
        now = int(time.time())
        verifier.verify_with_policy(marble.quote, collateral, now, dcap_qvl.QuotePolicy.claims_only(now))

    def server() -> Answer:
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        return _answers(connection)

    return {
        "handshake": lambda: _handshake(marble, server),
        "quote": _timed(quote),
        "key": _timed(lambda: ec.generate_private_key(ec.SECP384R1())),
        "certificate": _timed(lambda: authority.intermediate_key.sign(_CERTIFICATE, ec.ECDSA(hashes.SHA384()))),
    }


def own_steps(machine: SimulatedPlatform, manifest: bytes) -> dict[str, Step]:
    """The coordinator's own functions.

    `certificate` is a certificate with its key and the check of the request; `parameters` is that, too, and secrets and
    templates.
    """
    marble, collateral, now = new_marble(machine), machine.collateral("SGX"), dt.datetime.now(dt.UTC)
    verifier = Verifier(TrustRoot.from_pem(machine.root_pem), DirectoryCollateral(Path()))  # it is brought along
    deployment, _ = Deployment.begin(_authority(), Secret(os.urandom(32))).accept_manifest(manifest, now)
    authority, accepted = deployment.authority, deployment.manifest
    assert accepted is not None  # it has just been accepted
    report_data, uuid = marble_report_data(marble.key.certificate_der), UUID(marble.uuid)
    context = AnyClientCertContext(
        authority.marble_root,
        authority.intermediate_key,
        client_certificate=ClientCertificate.REQUIRED,
        alpn=(b"h2",),
    )

    def server() -> Answer:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = context.wrap_bio(incoming, outgoing, server_side=True)

        def answer(arrived: bytes) -> bytes:
            incoming.write(arrived)
            with contextlib.suppress(ssl.SSLWantReadError):
                connection.do_handshake()
            return outgoing.read()

        return answer

    def certificate() -> None:
        authority.issue_marble_certificate(
            marble.key.request_der,
            marble_type="bookstore",
            uuid=uuid,
            trust_domain=DEFAULT_TRUST_DOMAIN,
            lifetime=_DAY,
            now=now,
            reserved_names=accepted.marbles.keys(),
        )

    def parameters() -> None:
        build_parameters(
            accepted,
            "bookstore",
            uuid,
            marble.key.request_der,
            authority=authority,
            secrets=deployment.secrets,
            root_secret=deployment.root_secret,
            previous_root_secret=deployment.previous_root_secret,
            trust_domain=DEFAULT_TRUST_DOMAIN,
            lifetime=_DAY,
            now=now,
        )

    return {
        "handshake": lambda: _handshake(marble, server),
        "quote": _timed(lambda: verifier.check(parse_quote(marble.quote), collateral, report_data, int(time.time()))),
        "certificate": _timed(certificate),
        "parameters": _timed(parameters),
    }


def mean_milliseconds(steps: Mapping[str, Step], seconds: float) -> dict[str, float]:
    """Mean CPU time of each step. They take turns for so many seconds, once more each time."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, step in steps.items():
            times[name].append(step())
    return {name: statistics.fmean(of_one) * 1e3 for name, of_one in times.items()}


def _authority() -> Authority:
    return Authority.create(dns_names=["localhost"], now=dt.datetime.now(dt.UTC))


def _timed(action: Callable[[], object]) -> Step:
    def step() -> float:
        started = time.thread_time()
        action()
        return time.thread_time() - started

    return step


def _handshake(marble: Marble, server: Callable[[], Answer]) -> float:
    """CPU seconds of the server's side, until the client has shown its certificate."""
    client = SSL.Connection(marble.context, None)
    client.set_connect_state()
    started = time.thread_time()
    answer = server()
    spent = time.thread_time() - started
    flight, ask = b"", _answers(client)
    for _ in range(2):  # client hello; certificate and finished
        flight = ask(flight)
        started = time.thread_time()
        flight = answer(flight)
        spent += time.thread_time() - started
    ask(flight)
    return spent


def _answers(connection: SSL.Connection) -> Answer:
    def answer(arrived: bytes) -> bytes:
        if arrived:
            connection.bio_write(arrived)
        with contextlib.suppress(SSL.WantReadError):
            connection.do_handshake()
        return b"".join(_pending(connection))

    return answer


def _pending(connection: SSL.Connection) -> Iterable[bytes]:
    try:
        while True:
            yield connection.bio_read(_RECORDS)
    except SSL.WantReadError:
        return
