"""The JSON Schema of a manifest, for editors and for checks before an upload.

It says what a schema can say: names of fields, types, ranges and the simpler rules between fields. `load_manifest`
knows more: which names refer to what, and what templates make. It also takes keys in any case, and empty fields that Go
writes; the schema has the canonical spelling, and the fields that have an effect.

`python -m coordinator.manifest.schema > docs/reference/manifest.schema.json` exports it.
"""

from __future__ import annotations

import json
import sys

from coordinator.manifest.config import FeatureGate, SealMode
from coordinator.manifest.infrastructures import CPU_SVN_SIZE
from coordinator.manifest.marbles import LONGEST_MARBLE_NAME
from coordinator.manifest.packages import TCB_STATUSES
from coordinator.manifest.recovery_keys import MOST_RECOVERY_KEYS
from coordinator.manifest.schema_certificate import certificate_schema
from coordinator.manifest.schema_terms import (
    Schema,
    choice,
    listed,
    named,
    octets,
    record,
    text,
    truth,
    when,
    whole,
)
from coordinator.manifest.secrets import CURVE_SIZES, LARGEST_SYMMETRIC_KEY, LONGEST_VALIDITY, RSA_SIZES
from coordinator.manifest.users import ACTIONS, ResourceType
from coordinator.secret_value import SecretType

_UINT16_MAX = 2**16 - 1
_NOTHING: Schema = {"enum": [None, ""]}
_ABSENT: Schema = {"type": "null"}
_GIVEN: Schema = {"type": "string", "minLength": 1}
_ZERO: Schema = {"enum": [None, 0]}
_ENCODINGS = ("", "string", "base64", "hex")
_SIZES: dict[SecretType, Schema] = {
    SecretType.SYMMETRIC_KEY: {"minimum": 8, "maximum": LARGEST_SYMMETRIC_KEY, "multipleOf": 8},
    SecretType.CERT_ECDSA: {"enum": list(CURVE_SIZES)},
    SecretType.CERT_RSA: {"minimum": RSA_SIZES[0], "maximum": RSA_SIZES[-1]},
}
_PORT = text("A port, as a string.", pattern="^[1-9][0-9]{0,4}$", examples=["8443"])


def manifest_schema() -> Schema:
    """JSON Schema, draft 2020-12."""
    description = (
        "What a deployment consists of. Keys have their canonical spelling; the coordinator takes them in any case."
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest",
        **record(
            description,
            {
                "Infrastructures": named("Platforms that marbles may run on; none: any.", _infrastructure()),
                "Secrets": named("What is generated for marbles, or uploaded by users.", _secret()),
                "Users": named("Who may do something to the running deployment.", _user()),
                "Roles": named("What users may do.", _role()),
                "RecoveryKeys": named(
                    "Keys whose owners can open the sealed state when the machine cannot.",
                    text("An RSA public key in PEM.", pattern="-----BEGIN PUBLIC KEY-----"),
                    maxProperties=MOST_RECOVERY_KEYS,
                ),
                "TLS": named("Tags for transparent TLS, referred to by marbles.", _tls_tag()),
                "Config": _config(),
            },
            required={
                "Packages": named("Code that may be a marble.", _package(), minProperties=1),
                "Marbles": named(
                    "Types of marbles.",
                    _marble(),
                    minProperties=1,
                    propertyNames={"pattern": f"^[A-Za-z0-9._-]{{1,{LONGEST_MARBLE_NAME}}}$"},
                ),
            },
        ),
    }


def _hex(description: str, *sizes: int) -> Schema:
    return text(description, pattern=f"^({'|'.join(f'[0-9A-Fa-f]{{{2 * size}}}' for size in sizes)}|)$")


def _package() -> Schema:
    by_signer = {"SignerID": _GIVEN, "ProductID": {"type": "integer"}, "SecurityVersion": {"type": "integer"}}
    identified = [{"Debug": {"const": True}}, {"UniqueID": _GIVEN}, by_signer]
    return record(
        "Code, by its UniqueID or by SignerID, ProductID and SecurityVersion.",
        {
            "Debug": truth("The enclave is built for debugging."),
            "UniqueID": _hex("MRENCLAVE (64 hex digits) or MRTD (96).", 32, 48),
            "SignerID": _hex("MRSIGNER, 64 hex digits.", 32),
            "ProductID": whole("ISVPRODID."),
            "SecurityVersion": whole("Smallest ISVSVN."),
            "AcceptedTCBStatuses": listed(
                'Accepted besides UpToDate; ["SWHardeningNeeded"] if absent.', choice("A status.", sorted(TCB_STATUSES))
            ),
            "AcceptedAdvisories": listed(
                "Advisories accepted with SWHardeningNeeded; all if empty.", text("Such as INTEL-SA-00334.")
            ),
            "RTMRs": listed(
                "RTMR0 and the following of a trust domain; an empty one may be anything. Not in MarbleRun.",
                _hex("96 hex digits.", 48),
                maxItems=4,
            ),
        },
        anyOf=[{"properties": fields, "required": list(fields)} for fields in identified],
        allOf=[
            when({"UniqueID": _GIVEN}, {"SignerID": _NOTHING, "ProductID": _ABSENT, "SecurityVersion": _ABSENT}),
        ],
    )


def _infrastructure() -> Schema:
    cpu_svn = octets(f"Smallest versions, {CPU_SVN_SIZE} bytes.")
    return record(
        "A kind of platform; what is absent is not looked at.",
        {
            "CPUSVN": cpu_svn,
            "QESVN": whole("Smallest version of the quoting enclave.", maximum=_UINT16_MAX),
            "PCESVN": whole("Smallest version of the provisioning certification enclave.", maximum=_UINT16_MAX),
            "RootCA": octets("Certificate at the root of the evidence, PEM or DER."),
        },
    )


def _marble() -> Schema:
    content = {
        "description": "The content: a string, or an object that says more.",
        "anyOf": [
            text("A template."),
            record(
                "Content with its encoding.",
                {
                    "Data": text("The content, encoded."),
                    "Encoding": choice("How Data is encoded; string if absent.", _ENCODINGS, any_case=True),
                    "NoTemplates": truth("The content is taken as it is."),
                },
            ),
        ],
    }
    return record(
        "A type of marble.",
        {
            "MaxActivations": whole("How many starts are allowed; 0: any number."),
            "Parameters": record(
                "What a marble starts with.",
                {
                    "Files": named("Files by path.", content, propertyNames={"minLength": 1}),
                    "Env": named("Variables by name.", content, propertyNames={"pattern": "^[^=]+$"}),
                    "Argv": listed("Arguments, never templates.", text("An argument.")),
                },
            ),
            "TLS": listed("Tags.", text("Name of an entry of TLS.")),
            "DisableSecretBinding": truth("Unique secrets do not depend on the type of the marble."),
        },
        required={"Package": text("Name of an entry of Packages.")},
    )


def _secret() -> Schema:
    return record(
        "A secret: its definition, never its value.",
        {
            "Size": whole("In bits."),
            "Shared": truth("All marbles have the same value."),
            "UserDefined": truth("A user uploads the value."),
            "ValidFor": whole("Days that the certificate is valid; 365 if 0.", maximum=LONGEST_VALIDITY),
            "Cert": certificate_schema(),
        },
        required={"Type": choice("Kind of secret.", [kind.value for kind in SecretType])},
        allOf=[_rule_of(kind) for kind in SecretType],
    )


def _rule_of(kind: SecretType) -> Schema:
    size = _SIZES.get(kind)
    fields: Schema = {"Size": {"type": "integer", **size} if size else _ZERO}
    if not kind.is_certificate:
        fields |= {"ValidFor": _ZERO, "Cert": {"maxProperties": 0}}
    required = ["Size"] if size else []
    if kind is SecretType.PLAIN:
        fields["UserDefined"] = {"const": True}
        required.append("UserDefined")
    return when({"Type": {"const": kind.value}}, fields, required=required)


def _user() -> Schema:
    return record(
        "A user, known by a client certificate.",
        {"Roles": listed("What the user may do.", text("Name of an entry of Roles."))},
        required={"Certificate": text("PEM; compared byte for byte.", pattern="-----BEGIN CERTIFICATE-----")},
    )


def _role() -> Schema:
    return record(
        "Actions on resources.",
        {
            "ResourceNames": listed("Names of packages or of secrets.", text("A name.")),
            "Actions": listed("What is allowed, in any case.", text("An action.")),
        },
        required={"ResourceType": choice("Kind of the resources.", [kind.value for kind in ResourceType])},
        allOf=[
            *(
                when(
                    {"ResourceType": {"const": kind.value}},
                    {"Actions": {"items": choice("An action.", sorted(a.value for a in actions), any_case=True)}},
                )
                for kind, actions in ACTIONS.items()
            ),
            when({"ResourceType": {"const": ResourceType.MANIFEST.value}}, {"ResourceNames": {"maxItems": 0}}),
        ],
    )


def _tls_tag() -> Schema:
    return record(
        "Connections that become TLS.",
        {
            "Outgoing": listed(
                "Connections to these addresses.",
                record("A target.", {}, required={"Addr": text("Host or address.", minLength=1), "Port": _PORT}),
            ),
            "Incoming": listed(
                "Connections to these ports.",
                record(
                    "A port.",
                    {
                        "Cert": text("Name of a secret whose certificate is shown; needs DisableClientAuth."),
                        "DisableClientAuth": truth("Clients need no certificate; needs Cert."),
                    },
                    required={"Port": _PORT},
                    allOf=[
                        when({"Cert": _GIVEN}, {"DisableClientAuth": {"const": True}}, required=["DisableClientAuth"]),
                        when({"DisableClientAuth": {"const": True}}, {"Cert": _GIVEN}, required=["Cert"]),
                    ],
                ),
            ),
        },
    )


def _config() -> Schema:
    return record(
        "How the coordinator behaves.",
        {
            "SealMode": choice(
                "Who can unseal the state; ProductKey if empty.", ["", *(mode.value for mode in SealMode)]
            ),
            "FeatureGates": listed(
                "Parts of the client API to switch on.",
                choice("A gate, in any case.", sorted(gate.value for gate in FeatureGate), any_case=True),
            ),
            "UpdateThreshold": whole("Users that must acknowledge an update; 0: all who may."),
            "RecoveryThreshold": {
                **whole("Recovery keys that are enough; 0: all.", maximum=MOST_RECOVERY_KEYS),
                "not": {"const": 1},
            },
            "RotateRootSecret": truth("An update makes a new root secret, and so new unique secrets."),
        },
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(manifest_schema(), indent=2) + "\n")
