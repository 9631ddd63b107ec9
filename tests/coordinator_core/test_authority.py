"""The certificate authority: MarbleRun's certificates, the chains through them, records, marble certificates."""

from __future__ import annotations

import datetime as dt
import ipaddress
import subprocess
from uuid import UUID

import pytest
from core_material import NOW, TRUST_DOMAIN, request
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from confidential_bookstore.errors import InvalidRequest, SealedStateError
from confidential_bookstore.pki.names import marble_type_of
from coordinator.pki.authority import Authority, IssuedCertificate

MARBLE_ID = UUID("3f9a8c52-6c6e-4f8e-9d2b-5a1f0c7e4d11")
PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def issue(authority: Authority, csr: bytes | None = None, **changes) -> IssuedCertificate:
    arguments = {
        "marble_type": "bookstore",
        "uuid": MARBLE_ID,
        "trust_domain": TRUST_DOMAIN,
        "lifetime": dt.timedelta(hours=24),
        "now": NOW,
        "reserved_names": ["bookstore", "bookbuyer"],
    }
    return authority.issue_marble_certificate(
        csr if csr is not None else request("bookstore", "127.0.0.1"), **(arguments | changes)
    )


def extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension:
    return certificate.extensions.get_extension_for_class(kind)


def openssl(*arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


@pytest.fixture
def files(authority, tmp_path):
    """The certificates of the authority and of one marble as PEM files."""
    certificates = {
        "root": authority.root,
        "intermediate": authority.intermediate,
        "marble_root": authority.marble_root,
        "marble": issue(authority).certificate,
    }
    paths = {}
    for name, certificate in certificates.items():
        paths[name] = str(tmp_path / f"{name}.pem")
        (tmp_path / f"{name}.pem").write_bytes(certificate.public_bytes(PEM))
    return paths


class TestCertificates:
    @pytest.mark.parametrize(
        ("which", "subject", "issuer"),
        [
            ("root", "MarbleRun Coordinator", "MarbleRun Coordinator"),
            ("intermediate", "MarbleRun Coordinator - Intermediate CA", "MarbleRun Coordinator"),
            (
                "marble_root",
                "MarbleRun Coordinator - Intermediate CA",
                "MarbleRun Coordinator - Intermediate CA",
            ),
        ],
    )
    def test_marblerun_names_and_extensions(self, authority, which, subject, issuer):
        certificate = getattr(authority, which)
        assert certificate.subject.rfc4514_string() == f"CN={subject}"
        assert certificate.issuer.rfc4514_string() == f"CN={issuer}"
        assert certificate.version is x509.Version.v3
        assert isinstance(certificate.public_key().curve, ec.SECP384R1)
        assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA384
        assert 0 < certificate.serial_number < 2**128
        assert certificate.not_valid_before_utc == NOW
        assert certificate.not_valid_after_utc.year == 2318

        usage = extension(certificate, x509.KeyUsage)
        assert usage.critical
        assert usage.value.public_bytes() == bytes.fromhex("03020284")  # digitalSignature, keyCertSign
        constraints = extension(certificate, x509.BasicConstraints)
        assert constraints.critical
        assert (constraints.value.ca, constraints.value.path_length) == (True, None)
        assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ]
        names = extension(certificate, x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost", "coordinator.example"]
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
        assert extension(certificate, x509.SubjectKeyIdentifier).value.digest
        assert (
            certificate.public_key()
            == (authority.root_key if which == "root" else authority.intermediate_key).public_key()
        )

    def test_only_the_intermediate_has_an_authority_key_id(self, authority):
        root_id = extension(authority.root, x509.SubjectKeyIdentifier).value.digest
        assert extension(authority.intermediate, x509.AuthorityKeyIdentifier).value.key_identifier == root_id
        for certificate in (authority.root, authority.marble_root):
            with pytest.raises(x509.ExtensionNotFound):
                extension(certificate, x509.AuthorityKeyIdentifier)

    def test_names_and_addresses_stand_once(self):
        address = ipaddress.ip_address("192.0.2.1")
        authority = Authority.create(
            dns_names=["a.example", "a.example"],
            ip_addresses=[address, ipaddress.ip_address("127.0.0.1"), address],
            now=NOW,
        )
        names = extension(authority.root, x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["a.example"]
        assert names.get_values_for_type(x509.IPAddress) == [
            ipaddress.ip_address(ip) for ip in ("127.0.0.1", "::1", "192.0.2.1")
        ]

    def test_serial_numbers_come_from_the_given_source(self):
        serials = iter([b"\x01" * 16, b"\xff" * 16, b"\0" * 16])
        authority = Authority.create(dns_names=[], now=NOW, random=lambda size: next(serials)[:size])
        assert authority.root.serial_number == int.from_bytes(b"\x01" * 16)
        assert authority.intermediate.serial_number == 2**128 - 1
        assert authority.marble_root.serial_number == 1  # 0 is not a serial number

    def test_openssl_reads_them(self, files):
        text = openssl("x509", "-in", files["intermediate"], "-noout", "-text")
        for line in (
            "Signature Algorithm: ecdsa-with-SHA384",
            "Issuer: CN = MarbleRun Coordinator\n",
            "Subject: CN = MarbleRun Coordinator - Intermediate CA\n",
            "ASN1 OID: secp384r1",
            "X509v3 Key Usage: critical\n                Digital Signature, Certificate Sign\n",
            "X509v3 Basic Constraints: critical\n                CA:TRUE\n",
            "TLS Web Server Authentication, TLS Web Client Authentication",
        ):
            assert line in text


class TestRecords:
    NAMES = (
        "certificate:coordinatorRootCert",
        "certificate:coordinatorIntermediateCert",
        "certificate:marbleRootCert",
        "privateKey:coordinatorRootKey",
        "privateKey:coordinatorIntermediateKey",
    )

    def test_round_trip(self, authority):
        records = authority.to_records()
        assert tuple(records) == self.NAMES
        loaded = Authority.from_records(records | {"state": b"3"})
        assert (loaded.root, loaded.intermediate, loaded.marble_root) == (
            authority.root,
            authority.intermediate,
            authority.marble_root,
        )
        assert loaded.to_records() == records

    def test_formats(self, authority):
        records = authority.to_records()
        assert records["certificate:marbleRootCert"] == authority.marble_root.public_bytes(DER)
        text = openssl("ec", "-inform", "DER", "-noout", "-text", stdin=records["privateKey:coordinatorRootKey"])
        assert "Private-Key: (384 bit)" in text
        # SEC1 ECPrivateKey: SEQUENCE { INTEGER 1, OCTET STRING of 48 bytes, ...
        assert records["privateKey:coordinatorRootKey"][3:8] == bytes.fromhex("0201010430")

    @pytest.mark.parametrize("name", NAMES)
    def test_every_record_is_needed(self, authority, name):
        records = authority.to_records()
        del records[name]
        with pytest.raises(SealedStateError, match=name):
            Authority.from_records(records)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("value", [b"", b"x", b"\x30\x00"])
    def test_every_record_is_well_formed(self, authority, name, value):
        with pytest.raises(SealedStateError, match="cannot be read"):
            Authority.from_records(authority.to_records() | {name: value})

    @pytest.mark.parametrize("name", NAMES)
    def test_keys_belong_to_their_certificates(self, authority, name):
        other = Authority.create(dns_names=[], now=NOW)
        with pytest.raises(SealedStateError, match="does not belong"):
            Authority.from_records(authority.to_records() | {name: other.to_records()[name]})

    def test_keys_are_elliptic(self, authority):
        from cryptography.hazmat.primitives.asymmetric import ed25519

        der = ed25519.Ed25519PrivateKey.generate().private_bytes(
            DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(SealedStateError, match="wrong kind"):
            Authority.from_records(authority.to_records() | {"privateKey:coordinatorRootKey": der})


def test_signature_is_by_the_root_key_over_sha256(authority):
    signature = authority.sign(b"manifest")
    authority.root.public_key().verify(signature, b"manifest", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        authority.root.public_key().verify(signature, b"Manifest", ec.ECDSA(hashes.SHA256()))


def test_no_key_is_in_a_repr(authority):
    assert "key" not in repr(authority)
    assert "key" not in repr(issue(authority))


class TestMarbleCertificate:
    def test_marblerun_names_and_extensions(self, authority):
        issued = issue(authority, request("bookstore.example", "bookstore", "10.0.0.1", "::1"))
        certificate = issued.certificate
        assert certificate.subject.rfc4514_string() == f"CN={MARBLE_ID}"
        assert certificate.issuer.rfc4514_string() == "CN=MarbleRun Coordinator - Intermediate CA"
        assert isinstance(issued.private_key.curve, ec.SECP384R1)
        assert certificate.public_key() == issued.private_key.public_key()
        assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA384
        usage = extension(certificate, x509.KeyUsage)
        assert usage.critical
        assert usage.value.public_bytes() == bytes.fromhex("03020388")  # digitalSignature, keyAgreement
        assert list(extension(certificate, x509.ExtendedKeyUsage).value) == [
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ]
        assert not extension(certificate, x509.BasicConstraints).value.ca
        issuer_id = extension(authority.marble_root, x509.SubjectKeyIdentifier).value.digest
        assert extension(certificate, x509.AuthorityKeyIdentifier).value.key_identifier == issuer_id
        with pytest.raises(x509.ExtensionNotFound):
            extension(certificate, x509.SubjectKeyIdentifier)
        names = extension(certificate, x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [
            "bookstore.example",
            "bookstore",
            "bookstore.marbles.internal",
        ]
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
            "spiffe://marbles.internal/marble/bookstore"
        ]

    def test_the_marble_type_stands_raw_in_its_extension(self, authority):
        certificate = issue(authority, marble_type="bookbuyer", csr=request()).certificate
        (found,) = [item for item in certificate.extensions if item.oid.dotted_string == "1.3.9903.2.1"]
        assert not found.critical
        assert found.value.value == b"bookbuyer"
        assert marble_type_of(certificate) == "bookbuyer"
        # id 1.3.9903.2.1, then an OCTET STRING of the nine characters themselves
        assert bytes.fromhex("06052bcd2f0201" + "0409") + b"bookbuyer" in certificate.public_bytes(DER)

    def test_both_chains_hold(self, files):
        through_intermediate = openssl(
            "verify", "-x509_strict", "-attime", str(int(NOW.timestamp())), "-CAfile", files["root"],
            "-untrusted", files["intermediate"], files["marble"],
        )  # fmt: skip
        to_marble_root = openssl(
            "verify", "-attime", str(int(NOW.timestamp())), "-CAfile", files["marble_root"], files["marble"]
        )
        assert through_intermediate == to_marble_root == f"{files['marble']}: OK\n"

    def test_chains_do_not_hold_without_their_issuer(self, files):
        assert "unable to get local issuer" in openssl(
            "verify", "-attime", str(int(NOW.timestamp())), "-CAfile", files["root"], files["marble"]
        )

    def test_verified_by_name_through_both_anchors(self, authority):
        from cryptography.x509 import verification

        leaf = issue(authority).certificate
        for anchor, untrusted in ((authority.root, [authority.intermediate]), (authority.marble_root, [])):
            verifier = (
                verification.PolicyBuilder()
                .store(verification.Store([anchor]))
                .time(NOW)
                .build_server_verifier(x509.DNSName("bookstore.marbles.internal"))
            )
            assert verifier.verify(leaf, untrusted)[-1] == anchor

    def test_keys_are_fresh(self, authority):
        csr = request("bookstore")
        first, second = issue(authority, csr), issue(authority, csr)
        assert first.certificate.public_key() != second.certificate.public_key()
        assert first.certificate.serial_number != second.certificate.serial_number
        assert first.certificate.public_key() != x509.load_der_x509_csr(csr).public_key()

    @pytest.mark.parametrize(
        ("lifetime", "early"),
        [(dt.timedelta(hours=24), 60), (dt.timedelta(minutes=5), 30), (dt.timedelta(seconds=10), 1)],
    )
    def test_validity_starts_a_little_early(self, authority, lifetime, early):
        certificate = issue(authority, lifetime=lifetime).certificate
        assert certificate.not_valid_after_utc == NOW + lifetime
        assert certificate.not_valid_before_utc == NOW - dt.timedelta(seconds=early)

    def test_forms_of_the_key(self, authority):
        issued = issue(authority)
        assert issued.certificate_der == issued.certificate.public_bytes(DER)
        loaded = serialization.load_der_private_key(issued.private_key_der.reveal(), None)
        assert loaded.public_key() == issued.certificate.public_key()
        assert serialization.load_der_public_key(issued.public_key_der) == loaded.public_key()

    def test_a_type_that_is_no_dns_label_gets_a_name_all_the_same(self, authority):
        certificate = issue(authority, request(), marble_type="Book_Store.v2").certificate
        names = extension(certificate, x509.SubjectAlternativeName).value
        (name,) = names.get_values_for_type(x509.DNSName)
        assert name.startswith("x--")
        assert name.endswith(".marbles.internal")

    def test_the_name_of_another_type_is_refused(self, authority):
        with pytest.raises(InvalidRequest, match="name of another marble type: got BookBuyer"):
            issue(authority, request("bookstore", "BookBuyer"))
        assert issue(authority, request("bookbuyer"), marble_type="bookbuyer")

    def test_a_type_that_differs_in_case_only_is_another_type(self, authority):
        with pytest.raises(InvalidRequest, match="another marble type"):
            issue(authority, request("bookstore"), reserved_names=["bookstore", "Bookstore"])
