"""A marble written from MarbleRun's protocol alone.

It shares no code with the project, not even the generated stubs.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import ssl
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpclib.client import Channel, UnaryUnaryMethod

_FIELD = descriptor_pb2.FieldDescriptorProto


def _protocol() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(name="independent.proto", package="rpc", syntax="proto3")

    def message(parent: Any, name: str, *fields: tuple[str, int, int, str]) -> Any:
        made = parent.add(name=name)
        for number, (field_name, kind, label, type_name) in enumerate(fields, 1):
            made.field.add(name=field_name, number=number, type=kind, label=label, type_name=type_name or None)
        return made

    one, many = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
    text, raw, nested = _FIELD.TYPE_STRING, _FIELD.TYPE_BYTES, _FIELD.TYPE_MESSAGE
    request = [("Quote", raw, one, ""), ("CSR", raw, one, ""), ("MarbleType", text, one, ""), ("UUID", text, one, "")]
    message(file.message_type, "ActivationReq", *request)
    message(file.message_type, "ActivationResp", ("Parameters", nested, one, ".rpc.Parameters"))
    parameters = message(
        file.message_type,
        "Parameters",
        ("Files", nested, many, ".rpc.Parameters.FilesEntry"),
        ("Env", nested, many, ".rpc.Parameters.EnvEntry"),
        ("Argv", text, many, ""),
    )
    for entry in ("FilesEntry", "EnvEntry"):
        made = message(parameters.nested_type, entry, ("key", text, one, ""), ("value", raw, one, ""))
        made.options.map_entry = True
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClassesForFiles(["independent.proto"], pool)


_MESSAGES = _protocol()
ActivationReq = _MESSAGES["rpc.ActivationReq"]
ActivationResp = _MESSAGES["rpc.ActivationResp"]


@dataclass
class IndependentMarble:
    """One marble: a key, its self-signed certificate, and whoever quotes for it.

    `quoter` gets 64 bytes of report data.
    """

    marble_type: str
    quoter: Callable[[bytes], bytes]
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    dns_names: tuple[str, ...] = ("localhost",)

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.names = [x509.DNSName(name) for name in self.dns_names]
        self.names += [x509.IPAddress(ipaddress.ip_address(text)) for text in ("127.0.0.1", "::1")]
        self.certificate = self._self_signed()

    @property
    def report_data(self) -> bytes:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(der).digest() + bytes(32)

    def csr(self) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        builder = builder.add_extension(x509.SubjectAlternativeName(self.names), critical=False)
        return builder.sign(self.key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)

    def request(self, **changes: Any) -> Any:
        content = {
            "Quote": self.quoter(self.report_data),
            "CSR": self.csr(),
            "MarbleType": self.marble_type,
            "UUID": self.uuid,
        }
        return ActivationReq(**(content | changes))

    def tls(self, *, show_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        if show_certificate:
            with tempfile.NamedTemporaryFile() as pem:
                pem.write(
                    self.key.private_bytes(
                        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                    )
                )
                pem.write(self.certificate.public_bytes(serialization.Encoding.PEM))
                pem.flush()
                context.load_cert_chain(pem.name)
        return context

    @contextlib.asynccontextmanager
    async def channel(self, port: int) -> AsyncIterator[Channel]:
        channel = Channel("127.0.0.1", port, ssl=self.tls())
        try:
            yield channel
        finally:
            channel.close()

    async def activate(self, port: int, *, timeout: float = 20, **changes: Any) -> Any:
        """The parameters that the coordinator sends; `changes` replace fields of the request."""
        async with self.channel(port) as channel:
            method = UnaryUnaryMethod(channel, "/rpc.Marble/Activate", ActivationReq, ActivationResp)
            return (await method(self.request(**changes), timeout=timeout)).Parameters

    def _self_signed(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MarbleRun Marble")])
        now = dt.datetime.now(dt.UTC)
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_cert_sign",
                "crl_sign",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(uuid.uuid4().int)
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(microseconds=(2**63 - 1) // 1000))
            .add_extension(x509.KeyUsage(digital_signature=True, key_agreement=True, **usage), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(self.names), critical=False)
            .sign(self.key, hashes.SHA384())
        )
