"""The `Cert` field of a secret: what is read from it, and the certificate that comes of it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import Any

import pytest
from core_material import NOW, load
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from confidential_bookstore.errors import ManifestError
from coordinator.secret_value import SecretType, SecretValue
from coordinator.secrets.generation import generate_shared


def generate(authority, *, now: dt.datetime = NOW, **secret: Any) -> SecretValue:
    definition = {"Type": "cert-ecdsa", "Size": 256, "Shared": True} | secret
    return generate_shared(load(Secrets={"s": definition}).secrets["s"], authority, now)


def certificate(authority, cert: dict[str, Any] | None = None, **secret: Any) -> x509.Certificate:
    value = generate(authority, Cert=cert, **secret)
    return x509.load_der_x509_certificate(value.certificate)


def extension(issued: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension:
    return issued.extensions.get_extension_for_class(kind)


def names(issued: x509.Certificate, kind: type[x509.GeneralName]) -> list[Any]:
    return extension(issued, x509.SubjectAlternativeName).value.get_values_for_type(kind)


class TestDefaults:
    def test_of_marblerun(self, authority):
        issued = certificate(authority)
        assert issued.subject.rfc4514_string() == "CN=localhost"
        assert issued.issuer == authority.marble_root.subject
        assert names(issued, x509.DNSName) == ["localhost"]
        assert names(issued, x509.IPAddress) == [ipaddress.ip_address(ip) for ip in ("127.0.0.1", "::1")]
        usage = extension(issued, x509.KeyUsage)
        assert (usage.critical, usage.value.public_bytes()) == (True, bytes.fromhex("03020284"))
        assert list(extension(issued, x509.ExtendedKeyUsage).value) == [
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ]
        constraints = extension(issued, x509.BasicConstraints)
        assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, False, None)
        assert issued.not_valid_before_utc == NOW
        assert issued.not_valid_after_utc == NOW + dt.timedelta(days=365)
        assert 0 < issued.serial_number < 2**128
        assert issued.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA384

    def test_issuer_is_the_marble_root(self, authority):
        issued = certificate(authority)
        issued.verify_directly_issued_by(authority.marble_root)
        root_id = extension(authority.marble_root, x509.SubjectKeyIdentifier).value.digest
        assert extension(issued, x509.AuthorityKeyIdentifier).value.key_identifier == root_id
        with pytest.raises(x509.ExtensionNotFound):
            extension(issued, x509.SubjectKeyIdentifier)

    @pytest.mark.parametrize(
        ("cert", "name"),
        [
            ({"DNSNames": ["a.example"]}, "CN=a.example"),
            ({"DNSNames": ["a.example", "b.example"]}, "CN=MarbleRun Generated Certificate"),
            ({"DNSNames": ["a", "b"], "Subject": {"CommonName": "c"}}, "CN=c"),
            ({"DNSNames": []}, "CN=localhost"),
        ],
    )
    def test_common_name(self, authority, cert, name):
        assert certificate(authority, cert).subject.rfc4514_string() == name

    @pytest.mark.parametrize("empty", [{"DNSNames": []}, {"DNSNames": None}, {"KeyUsage": 0}, {"ExtKeyUsage": []}])
    def test_empty_fields_count_as_absent(self, authority, empty):
        issued = certificate(authority, empty)
        assert names(issued, x509.DNSName) == ["localhost"]
        assert extension(issued, x509.KeyUsage).value.key_cert_sign
        assert len(list(extension(issued, x509.ExtendedKeyUsage).value)) == 2

    def test_no_addresses_is_not_the_default(self, authority):
        assert names(certificate(authority, {"IPAddresses": []}), x509.IPAddress) == []
        assert len(names(certificate(authority, {"IPAddresses": None}), x509.IPAddress)) == 2


class TestFields:
    def test_the_demo_of_2021(self, authority):
        issued = certificate(
            authority,
            {"DNSNames": ["bookwarehouse"], "IsCA": True, "Subject": {"Organization": ["osm"], "CommonName": "root"}},
        )
        assert issued.subject.rfc4514_string() == "CN=root,O=osm"
        assert extension(issued, x509.BasicConstraints).value.ca
        key_id = extension(issued, x509.SubjectKeyIdentifier).value
        assert key_id == x509.SubjectKeyIdentifier.from_public_key(issued.public_key())

    def test_names(self, authority):
        issued = certificate(
            authority,
            {
                "DNSNames": ["*.example", "b.example"],
                "IPAddresses": ["192.0.2.1", "2001:db8::1"],
                "EmailAddresses": ["someone@example.com"],
                "URIs": ["spiffe://example/x", "https://example.com/a?b"],
            },
        )
        assert names(issued, x509.DNSName) == ["*.example", "b.example"]
        assert [str(ip) for ip in names(issued, x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
        assert names(issued, x509.RFC822Name) == ["someone@example.com"]
        assert names(issued, x509.UniformResourceIdentifier) == ["spiffe://example/x", "https://example.com/a?b"]

    def test_subject(self, authority):
        subject = {
            "Country": ["DE"],
            "Organization": ["Bücher"],
            "OrganizationalUnit": ["A", "B"],
            "Locality": ["Bochum"],
            "Province": ["NRW"],
            "StreetAddress": ["1 Street"],
            "PostalCode": ["44787"],
            "SerialNumber": "17",
            "CommonName": "all of it",
        }
        name = certificate(authority, {"Subject": subject}).subject
        assert [attribute.rfc4514_attribute_name for attribute in name] == [
            *("C", "O", "OU", "OU", "L", "ST", "STREET"),
            *("2.5.4.17", "CN", "2.5.4.5"),
        ]
        assert [str(attribute.value) for attribute in name][1:4] == ["Bücher", "A", "B"]
        assert len(name.rdns) == 9  # values of one field share a relative distinguished name

    def test_uris_as_go_writes_them(self, authority):
        urls = [
            {"Scheme": "spiffe", "Host": "example", "Path": "/x", "User": None, "ForceQuery": False},
            {"Scheme": "https", "Host": "example.com", "RawQuery": "a=b", "Fragment": "top"},
            {"Scheme": "urn", "Opaque": "isbn:1"},
        ]
        issued = certificate(authority, {"URIs": urls})
        assert names(issued, x509.UniformResourceIdentifier) == [
            "spiffe://example/x",
            "https://example.com?a=b#top",
            "urn:isbn:1",
        ]

    def test_extra_names_stand_in_place_of_others(self, authority):
        subject = {
            "CommonName": "not this",
            "Organization": ["kept"],
            "ExtraNames": [
                {"Type": [2, 5, 4, 3], "Value": "this"},
                {"Type": [2, 5, 4, 42], "Value": "Ada"},
                {"Type": [1, 3, 6, 1, 4, 1, 99999, 1], "Value": "x"},
            ],
        }
        name = certificate(authority, {"Subject": subject}).subject
        assert [(attribute.oid.dotted_string, attribute.value) for attribute in name] == [
            ("2.5.4.10", "kept"),
            ("2.5.4.3", "this"),
            ("2.5.4.42", "Ada"),
            ("1.3.6.1.4.1.99999.1", "x"),
        ]
        assert len(name.rdns) == 4

    def test_where_to_ask_about_the_certificate(self, authority):
        issued = certificate(
            authority,
            {
                "OCSPServer": ["http://ocsp.example"],
                "IssuingCertificateURL": ["http://ca.example/ca.crt"],
                "CRLDistributionPoints": ["http://ca.example/1.crl", "http://ca.example/2.crl"],
            },
        )
        access = extension(issued, x509.AuthorityInformationAccess)
        assert [(item.access_method.dotted_string[-1], item.access_location.value) for item in access.value] == [
            ("1", "http://ocsp.example"),
            ("2", "http://ca.example/ca.crt"),
        ]
        points = extension(issued, x509.CRLDistributionPoints)
        assert [[name.value for name in point.full_name] for point in points.value] == [
            ["http://ca.example/1.crl"],
            ["http://ca.example/2.crl"],
        ]
        assert not access.critical
        assert not points.critical

    def test_policies_and_further_usages(self, authority):
        issued = certificate(
            authority,
            {"PolicyIdentifiers": [[1, 2, 3], [2, 5, 29, 32, 0]], "UnknownExtKeyUsage": [[1, 3, 6, 1, 4, 1, 1]]},
        )
        policies = extension(issued, x509.CertificatePolicies).value
        assert [policy.policy_identifier.dotted_string for policy in policies] == ["1.2.3", "2.5.29.32.0"]
        usages = [oid.dotted_string for oid in extension(issued, x509.ExtendedKeyUsage).value]
        assert usages == ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.1"]

    @pytest.mark.parametrize("critical", [False, True])
    def test_name_constraints(self, authority, critical):
        issued = certificate(
            authority,
            {
                "IsCA": True,
                "PermittedDNSDomainsCritical": critical,
                "PermittedDNSDomains": ["example.com", ".example.org"],
                "ExcludedDNSDomains": ["bad.example.com"],
                "PermittedIPRanges": [{"IP": "10.1.2.3", "Mask": "/wAAAA=="}, "2001:db8::/32"],
                "ExcludedIPRanges": ["10.9.0.0/16"],
                "PermittedEmailAddresses": ["someone@example.com", "example.org"],
                "ExcludedEmailAddresses": [".example.net"],
                "PermittedURIDomains": ["example.com"],
                "ExcludedURIDomains": [".example.net"],
            },
        )
        constraints = extension(issued, x509.NameConstraints)
        assert constraints.critical is critical
        assert [str(name.value) for name in constraints.value.permitted_subtrees] == [
            *("example.com", ".example.org", "10.0.0.0/8", "2001:db8::/32"),
            *("someone@example.com", "example.org", "example.com"),
        ]
        assert [str(name.value) for name in constraints.value.excluded_subtrees] == [
            *("bad.example.com", "10.9.0.0/16", ".example.net", ".example.net"),
        ]

    @pytest.mark.parametrize("is_ca", [False, True])
    @pytest.mark.parametrize("key_id", ["AQID", [1, 2, 3]])
    def test_subject_key_id(self, authority, is_ca, key_id):
        issued = certificate(authority, {"IsCA": is_ca, "SubjectKeyId": key_id})
        assert extension(issued, x509.SubjectKeyIdentifier).value.digest == b"\1\2\3"

    @pytest.mark.parametrize(("number", "name"), [(0, "sha384"), (10, "sha256"), (11, "sha384"), (12, "sha512")])
    def test_signature_algorithm_is_go_s(self, authority, number, name):
        issued = certificate(authority, {"SignatureAlgorithm": number})
        assert issued.signature_hash_algorithm.name == name
        issued.verify_directly_issued_by(authority.marble_root)

    @pytest.mark.parametrize(
        ("bits", "encoded"),
        [
            (1, "03020780"),
            (1 | 4, "030205a0"),
            (1 | 32 | 64, "03020186"),
            (16 | 128, "03020009"),
            (16 | 256, "0303070880"),
        ],
    )
    def test_key_usage_is_go_s(self, authority, bits, encoded):
        assert (
            extension(certificate(authority, {"KeyUsage": bits}), x509.KeyUsage).value.public_bytes().hex() == encoded
        )

    def test_extended_key_usage_is_go_s(self, authority):
        issued = certificate(authority, {"ExtKeyUsage": list(range(14))})
        oids = [oid.dotted_string for oid in extension(issued, x509.ExtendedKeyUsage).value]
        assert oids[:5] == ["2.5.29.37.0", *(f"1.3.6.1.5.5.7.3.{number}" for number in (1, 2, 3, 4))]
        assert oids[8:10] == ["1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.9"]
        assert len(set(oids)) == 14

    @pytest.mark.parametrize(
        ("cert", "length"),
        [
            ({"IsCA": True}, None),
            ({"IsCA": True, "MaxPathLen": 0}, None),
            ({"IsCA": True, "MaxPathLen": 2}, 2),
            ({"IsCA": True, "MaxPathLenZero": True}, 0),
        ],
    )
    def test_path_length_is_go_s(self, authority, cert, length):
        assert extension(certificate(authority, cert), x509.BasicConstraints).value.path_length == length

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2030-01-02T03:04:05Z", dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
            ("2030-01-02t03:04:05.987654321z", dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
            ("2030-01-02T03:04:05+02:00", dt.datetime(2030, 1, 2, 1, 4, 5, tzinfo=dt.UTC)),
            ("2130-01-02T03:04:05Z", dt.datetime(2130, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
        ],
    )
    def test_not_after(self, authority, text, expected):
        assert certificate(authority, {"NotAfter": text}).not_valid_after_utc == expected

    def test_valid_for(self, authority):
        assert certificate(authority, ValidFor=7).not_valid_after_utc == NOW + dt.timedelta(days=7)
        assert certificate(authority, {"NotAfter": "0001-01-01T00:00:00Z"}, ValidFor=7).not_valid_after_utc == (
            NOW + dt.timedelta(days=7)
        )

    def test_not_after_that_has_passed(self, authority):
        with pytest.raises(ManifestError, match=r"Secrets\.s\.Cert\.NotAfter: has passed"):
            certificate(authority, {"NotAfter": NOW.isoformat()})

    def test_what_go_writes_for_nothing_may_be_there(self, authority):
        nothing = {
            "BasicConstraintsValid": True,
            "Raw": None,
            "Version": 0,
            "Extensions": [],
            "PermittedDNSDomainsCritical": False,
            "Policies": None,
        }
        assert certificate(authority, nothing | {"Subject": {"Names": None}}).subject.rfc4514_string() == "CN=localhost"

    @pytest.mark.parametrize(
        ("cert", "message"),
        [
            ({"DNSName": ["a"]}, 'Secrets.s.Cert: unknown key "DNSName"'),
            ({"DNSNames": "a"}, "Secrets.s.Cert.DNSNames: wrong type"),
            ({"DNSNames": ["a", "b c"]}, "Secrets.s.Cert.DNSNames[1]: not a DNS name"),
            ({"DNSNames": ["ä"]}, "DNSNames[0]: not a DNS name"),
            ({"IPAddresses": ["1.2.3"]}, "IPAddresses[0]: not an IP address"),
            ({"IPAddresses": ["10.0.0.0/8"]}, "IPAddresses[0]: not an IP address"),
            ({"IPAddresses": ["fe80::1%eth0"]}, "IPAddresses[0]: IP address has a zone"),
            ({"EmailAddresses": ["nobody"]}, "EmailAddresses[0]: not an e-mail address"),
            ({"URIs": ["no uri"]}, "URIs[0]: not a URI"),
            ({"URIs": [1]}, "URIs[0]: wrong type"),
            ({"URIs": [{"Scheme": "https"}]}, "URIs[0]: not a URI"),
            ({"URIs": [{"Host": "example"}]}, "URIs[0]: not a URI"),
            ({"URIs": [{"Scheme": "https", "Host": "a", "User": {"x": 1}}]}, "URIs[0].User: not supported"),
            ({"NotAfter": "2030-01-01"}, "NotAfter: not a time"),
            ({"NotAfter": "2030-01-01T00:00:00"}, "NotAfter: not a time"),
            ({"NotAfter": "2030-13-01T00:00:00Z"}, "NotAfter: not a time"),
            ({"NotAfter": 2030}, "NotAfter: wrong type"),
            ({"KeyUsage": 512}, "KeyUsage: number is out of range"),
            ({"KeyUsage": 128}, "without keyAgreement"),
            ({"ExtKeyUsage": [14]}, "ExtKeyUsage[0]: number is out of range"),
            ({"ExtKeyUsage": [1, 1]}, "ExtKeyUsage[1]: extended key usage stands twice"),
            ({"ExtKeyUsage": ["serverAuth"]}, "ExtKeyUsage[0]: wrong type"),
            ({"MaxPathLen": 1}, "MaxPathLen without IsCA"),
            ({"MaxPathLenZero": True}, "MaxPathLen without IsCA"),
            ({"IsCA": True, "MaxPathLen": 1, "MaxPathLenZero": True}, "contradict"),
            ({"IsCA": True, "MaxPathLen": -1}, "out of range"),
            ({"Subject": {"Country": ["Germany"]}}, "Secrets.s.Cert: certificate cannot be made from this"),
            ({"Subject": {"CommonName": "x" * 65}}, "Secrets.s.Cert: certificate cannot be made from this"),
            ({"Subject": {"CommonNam": "x"}}, 'Secrets.s.Cert.Subject: unknown key "CommonNam"'),
            ({"Subject": {"Organization": ["a", "a"]}}, "certificate cannot be made from this"),
            (
                {"Subject": {"ExtraNames": [{"Type": [9, 5], "Value": "x"}]}},
                "ExtraNames[0].Type: not an object identifier",
            ),
            ({"Subject": {"ExtraNames": [{"Type": "2.5.4.3", "Value": "x"}]}}, "ExtraNames[0].Type: wrong type"),
            ({"Subject": {"ExtraNames": [{"Type": [2, 5, 4, 3], "Value": 1}]}}, "ExtraNames[0].Value: wrong type"),
            ({"Subject": {"ExtraNames": [{"Value": "x"}]}}, "ExtraNames[0]: name without Type"),
            ({"SubjectKeyId": "AA"}, "Cert.SubjectKeyId: not base64"),
            ({"SubjectKeyId": [1, 256]}, "Cert.SubjectKeyId[1]: number is out of range"),
            ({"SubjectKeyId": [0] * 65}, "key identifier is too long: got 65 bytes"),
            ({"OCSPServer": ["nowhere"]}, "Cert.OCSPServer[0]: not a URI"),
            ({"IssuingCertificateURL": ["nowhere"]}, "Cert.IssuingCertificateURL[0]: not a URI"),
            ({"CRLDistributionPoints": ["http://x y"]}, "Cert.CRLDistributionPoints[0]: not a URI"),
            ({"PolicyIdentifiers": [[1]]}, "Cert.PolicyIdentifiers[0]: not an object identifier"),
            ({"PolicyIdentifiers": [[1, 2, 3], [1, 2, 3]]}, "PolicyIdentifiers[1]: object identifier stands twice"),
            ({"UnknownExtKeyUsage": [[1, 2.5]]}, "UnknownExtKeyUsage[0][1]: wrong type"),
            ({"PermittedDNSDomains": ["*.x"]}, "PermittedDNSDomains[0]: not a name that can be constrained"),
            ({"ExcludedEmailAddresses": ["a b"]}, "ExcludedEmailAddresses[0]: not a name that can be constrained"),
            ({"ExcludedURIDomains": ["http://x"]}, "ExcludedURIDomains[0]: not a name that can be constrained"),
            ({"PermittedIPRanges": ["10.0.0.1"]}, "PermittedIPRanges[0]: not a network"),
            ({"PermittedIPRanges": ["10.0.0.0/33"]}, "PermittedIPRanges[0]: not a network"),
            ({"PermittedIPRanges": [{"IP": "10.0.0.0", "Mask": "/wD/AA=="}]}, "Mask: not a network mask"),
            ({"PermittedIPRanges": [{"IP": "::1", "Mask": [255] * 17}]}, "Mask: not a network mask"),
            ({"PermittedIPRanges": [{"IP": "10.0.0.0"}]}, "PermittedIPRanges[0]: not a network mask"),
            *(
                ({"SignatureAlgorithm": number}, "not a signature that the marble root's key can make")
                for number in (*range(1, 10), 13)
            ),
            ({"NotBefore": "2020-01-01T00:00:00Z"}, "Cert.NotBefore: has no effect"),
            ({"SerialNumber": 5}, "Cert.SerialNumber: has no effect"),
            ({"ExtraExtensions": [{}]}, "Cert.ExtraExtensions: not supported"),
            ({"Policies": ["1.2.3"]}, "Cert.Policies: not supported"),
        ],
    )
    def test_refused_when_the_manifest_is_read(self, cert, message):
        with pytest.raises(ManifestError) as caught:
            load(Secrets={"s": {"Type": "cert-ed25519", "Cert": cert}})
        assert message in str(caught.value)


class TestKeys:
    @pytest.mark.parametrize(
        ("size", "curve"), [(224, "secp224r1"), (256, "secp256r1"), (384, "secp384r1"), (521, "secp521r1")]
    )
    def test_ecdsa(self, authority, size, curve):
        key = self.matching_key(generate(authority, Size=size))
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == curve

    def test_ed25519(self, authority):
        key = self.matching_key(generate(authority, Type="cert-ed25519", Size=0))
        assert isinstance(key, ed25519.Ed25519PrivateKey)

    @pytest.mark.parametrize("size", [1024, 2048])
    def test_rsa(self, authority, size):
        key = self.matching_key(generate(authority, Type="cert-rsa", Size=size))
        assert isinstance(key, rsa.RSAPrivateKey)
        assert key.key_size == size
        assert key.public_key().public_numbers().e == 65537

    def matching_key(self, value: SecretValue):
        """The private key, which is that of the public key and of the certificate; forms as documented."""
        key = serialization.load_der_private_key(value.private.reveal(), None)
        public = key.public_key()
        assert value.public.reveal() == public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert x509.load_der_x509_certificate(value.certificate).public_key() == public
        assert value.type is not SecretType.SYMMETRIC_KEY
        return key
