"""How commands come to a coordinator that they may believe: context, options over it, verification, pinned root.

A command that talks to a coordinator is written with `@connected` and takes a `Target`. The decorator gives it the
connection options. There is no option that leaves verification out.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cli.files import read_file
from cli.output import waiting
from confidential_bookstore.attestation.collateral import CollateralSource, DirectoryCollateral, PccsCollateral
from confidential_bookstore.attestation.roots import MALFORMED, TrustRoot
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, VerifiedCoordinator, verify_coordinator
from confidential_bookstore.owner.answers import RECOVERY
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.context import Context, Contexts
from confidential_bookstore.owner.policy import Policy, read_policy
from confidential_bookstore.owner.user import User, read_user
from confidential_bookstore.owner.verification import AttestedCoordinator, attest

P = ParamSpec("P")

_PANEL = "Connection (in place of the context's)"


def _option(help_: str, metavar: str) -> Any:
    return typer.Option(help=help_, metavar=metavar, rich_help_panel=_PANEL, show_default=False)


CONNECTION_OPTIONS: dict[str, Any] = {
    "coordinator": _option("The coordinator's client API.", "HOST:PORT"),
    "policy": _option("The code it must run: JSON with UniqueID, or SignerID and so on.", "FILE"),
    "root": _option("Its root certificate, if that is known beforehand.", "PEM"),
    "trust_root": _option("The root that quotes must lead to; without it, Intel's.", "PEM"),
    "pccs": _option("Where collateral comes from.", "URL"),
    "collateral": _option("Or a directory with collateral.", "DIR"),
    "user_cert": _option("Certificate of a user of the manifest.", "PEM"),
    "user_key": _option("The user's private key, not encrypted.", "PEM"),
    "metrics": _option("The coordinator's page for operators.", "HOST:PORT"),
}
_CONTEXT_OPTION = _option("Which context to use, in place of the current one.", "NAME")


def contexts_path() -> Path:
    """$CBS_CONTEXT, or ~/.config/cbs/contexts.json."""
    return Path(os.environ.get("CBS_CONTEXT") or Path.home() / ".config" / "cbs" / "contexts.json")


@dataclass(frozen=True, slots=True)
class Target:
    """A coordinator, and by what to know it. `name` is of the context, empty without one."""

    contexts: Contexts
    name: str
    context: Context

    @classmethod
    def resolve(cls, name: str | None, given: dict[str, str | None]) -> Target:
        """From the named (or current) context and what was given on the command line.

        Raises:
            ConfigurationError: there is no such context.
        """
        contexts = Contexts.load(contexts_path())
        name = contexts.current if name is None else name
        context = contexts.named(name) if name else Context()
        return cls(contexts, name, context.override(**given))

    @property
    def address(self) -> str:
        """The client API.

        Raises:
            ConfigurationError: nobody said which.
        """
        if not self.context.coordinator:
            raise ConfigurationError(
                "which coordinator?", hint="--coordinator HOST:PORT, or make a context: `cbs context set NAME ...`"
            )
        return self.context.coordinator

    def api(self, *, as_user: bool = False, fresh: bool = False) -> CoordinatorApi:
        """A verified coordinator: by its known root, or else (always if `fresh` and a policy is given) by its quote.

        Raises:
            ConfigurationError: no coordinator, no user although one is needed, or nothing to know it by.
            CoordinatorUntrusted: it is another one.
            CoordinatorUnavailable: it, or collateral, cannot be reached.
        """
        user = self.user() if as_user else None
        root = self.known_root()
        if root is None or (fresh and self.context.policy):
            root = self.attest().coordinator.root
        return CoordinatorApi(Connection(self.address, root, user))

    def attest(self, *, any_root: bool = False) -> AttestedCoordinator:
        """Verify its quote over a fresh nonce, and keep its root in the context if none is kept yet.

        `any_root`: a coordinator in recovery mode has a root of its own for the time being, which is not kept.

        Raises:
            ConfigurationError, CoordinatorUntrusted, CoordinatorUnavailable: as `api`.
        """
        known = None if any_root else self.known_root()
        address, policy, trust_root, collateral = self.address, self.policy(), self.trust_root(), self.collateral()
        with waiting("verifying the coordinator"):
            attested = asyncio.run(attest(address, policy, trust_root, collateral, known_root=known))
        if known is None and not any_root:
            self._pin_if_lasting(attested.coordinator.root)
        return attested

    def _pin_if_lasting(self, root: x509.Certificate) -> None:
        """A coordinator in recovery mode gets its real root back when it is recovered."""
        if self.name and CoordinatorApi(Connection(self.address, root)).status().code != RECOVERY:
            self.pin(root)

    def pin(self, root: x509.Certificate) -> None:
        """Keep the root in the context, if there is one, in place of what was kept."""
        if self.name:
            self.contexts.pin(self.name, root.public_bytes(Encoding.PEM))

    def known_root(self) -> x509.Certificate | None:
        """The root certificate that was given, or that was verified before."""
        if self.context.root:
            return read_certificate(self.context.root)
        pinned = self.contexts.pinned_root(self.name) if self.name else None
        return read_certificate(pinned) if pinned and pinned.exists() else None

    def policy(self) -> Policy:
        """The policy.

        Raises:
            ConfigurationError: there is none.
        """
        if not self.context.policy:
            raise ConfigurationError(
                "no policy to verify the coordinator by",
                hint="--policy FILE with the code it must run (`cbs package-info FILE --output json` makes one)",
            )
        return read_policy(read_file(self.context.policy, "the policy"), self.context.policy)

    def trust_root(self) -> TrustRoot:
        """The pinned root of quotes."""
        path = self.context.trust_root
        return TrustRoot.from_pem(read_file(path, "the trust root")) if path else TrustRoot.intel()

    def collateral(self) -> CollateralSource:
        """Where collateral comes from.

        Raises:
            ConfigurationError: nobody said where.
        """
        if self.context.collateral:
            return DirectoryCollateral(Path(self.context.collateral))
        if self.context.pccs:
            return PccsCollateral(self.context.pccs)
        raise ConfigurationError("no collateral to verify quotes with", hint="--pccs URL, or --collateral DIR")

    def user(self) -> User:
        """The user.

        Raises:
            ConfigurationError: none is given, or the files cannot be used.
        """
        if not (self.context.user_cert and self.context.user_key):
            raise ConfigurationError("this needs a user of the manifest", hint="--user-cert PEM --user-key PEM")
        certificate = read_file(self.context.user_cert, "the user's certificate")
        return read_user(certificate, read_file(self.context.user_key, "the user's private key"))


def fetch_certificates(target: Target) -> VerifiedCoordinator:
    """Root and present intermediate: by the known root, or else by a quote.

    Raises:
        ConfigurationError, CoordinatorUntrusted, CoordinatorUnavailable: see `Target.api`.
    """
    root = target.known_root()
    if root is None:
        return target.attest().coordinator
    return asyncio.run(verify_coordinator(target.address, CoordinatorTrust(None, pinned_root=root)))


def read_certificate(path: str | Path) -> x509.Certificate:
    """One certificate in PEM.

    Raises:
        ConfigurationError: there is another number, or it cannot be read.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(read_file(path, "the root certificate"))
    except MALFORMED as error:
        raise ConfigurationError("not one certificate in PEM", got=path) from error
    return certificate


def connected(command: Callable[Concatenate[Target, P], None]) -> Callable[..., None]:
    """The command with `--context` and the connection options; it is called with what they stand for."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        given = {name: options.pop(name) for name in CONNECTION_OPTIONS}
        command(Target.resolve(options.pop("context"), given), *arguments, **options)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    ours = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option])
        for name, option in {"context": _CONTEXT_OPTION, **CONNECTION_OPTIONS}.items()
    ]
    parameters = [*own, *ours]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
