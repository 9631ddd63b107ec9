"""What the demo's data owner keeps: who may update the manifest, who can recover the state, and how `cbs` finds it all.

    user.pem, user-key.pem      a user of the manifest: may update it
    recovery-key.pem            opens the coordinator's state when the machine that sealed it is lost,
    recovery.json               with this, which the coordinator gave when the manifest was set
    coordinator.json            the code that the coordinator must run
    trust-root.pem              the root that its quote must lead to
    policy                      who may call what, as SMI documents: what the manifest says of it
    contexts.json               all of it as a context of `cbs`

In the demo they lie on the machine that runs everything. In life they are on the owner's own.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.context import Context, Contexts
from confidential_bookstore.owner.recovery import decrypt, read_recovery_key, read_recovery_secret
from confidential_bookstore.secret import Secret

NAME = "owner"  # of the user, and of the recovery key
CONTEXT = "demo"
_RECOVERY_BITS = 3072
_VALID = dt.timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class OwnerFiles:
    """One folder. What is missing is made on first use, and kept: the manifest names it."""

    folder: Path

    @property
    def contexts(self) -> Path:
        """For `CBS_CONTEXT`."""
        return self.folder / "contexts.json"

    def user_certificate(self) -> bytes:
        """PEM; its key lies beside it."""
        path = self.folder / "user.pem"
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            self._write("user-key.pem", _private(key))
            self._write("user.pem", _self_signed(key).public_bytes(Encoding.PEM))
        return path.read_bytes()

    def recovery_key(self) -> bytes:
        """The public key in PEM; the private one is what lies here."""
        path = self.folder / "recovery-key.pem"
        if not path.exists():
            self._write(path.name, _private(rsa.generate_private_key(public_exponent=65537, key_size=_RECOVERY_BITS)))
        public = load_pem_private_key(path.read_bytes(), password=None).public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def recovery_private_key(self) -> rsa.RSAPrivateKey:
        """The private part."""
        return read_recovery_key((self.folder / "recovery-key.pem").read_bytes())

    def recovery_secret(self) -> Secret[bytes]:
        """Decrypted.

        Raises:
            ConfigurationError: it was not saved, or cannot be read.
        """
        try:
            encrypted = read_recovery_secret((self.folder / "recovery.json").read_bytes())
        except FileNotFoundError as error:
            raise ConfigurationError(
                "the coordinator's state must be recovered, and there is no recovery secret",
                got=self.folder / "recovery.json",
                hint="to begin anew, remove the folder state",
            ) from error
        return decrypt(encrypted, self.recovery_private_key())

    def policy(self, first: Path) -> Path:
        """The folder of SMI documents; to begin with, a copy of the folder `first`."""
        folder = self.folder / "policy"
        if not folder.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = self.folder / "policy.tmp"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(first, unfinished)
            unfinished.rename(folder)
        return folder

    def save_recovery_secrets(self, secrets: Mapping[str, bytes]) -> None:
        """Encrypted, as the coordinator gave them; it says them once."""
        encoded = {name: base64.b64encode(secret).decode() for name, secret in secrets.items()}
        self._write("recovery.json", json.dumps({"RecoverySecrets": encoded}, indent=2).encode())

    def save_context(
        self, *, policy: Mapping[str, object], trust_root: bytes, coordinator: str, metrics: str, pccs: str, mesh: str
    ) -> None:
        """The context `demo`.

        Args:
            policy: the coordinator's package, with a manifest's field names.
            trust_root: that quotes must lead to, PEM.
            coordinator: `host:port` of the client API.
            metrics: of the page for operators.
            pccs: URL.
            mesh: the folder of the host's mesh; empty if there is none.
        """
        self._write("coordinator.json", json.dumps(policy, indent=2).encode())
        self._write("trust-root.pem", trust_root)
        contexts = Contexts.load(self.contexts)
        contexts.by_name[CONTEXT] = Context(
            coordinator=coordinator,
            policy=str(self.folder / "coordinator.json"),
            trust_root=str(self.folder / "trust-root.pem"),
            pccs=pccs,
            user_cert=str(self.folder / "user.pem"),
            user_key=str(self.folder / "user-key.pem"),
            metrics=metrics,
            mesh=mesh,
            smi=str(self.folder / "policy"),
        ).absolute()
        contexts.current = CONTEXT
        contexts.save()
        contexts.pinned_root(CONTEXT).unlink(missing_ok=True)  # the state may have been removed since

    def _write(self, name: str, content: bytes) -> None:
        """In one step, mode 0600."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.folder / f"{name}.tmp"
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        unfinished.replace(self.folder / name)


def _private(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + _VALID)
    return builder.sign(key, hashes.SHA256())
