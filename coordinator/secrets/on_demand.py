"""The secrets that one marble sees, each made when a template looks it up and not before.

An activation therefore costs what its marble uses: an RSA key that another type needs is never made for it. A secret is
made once per activation, however often templates name it.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator, Mapping
from uuid import UUID

from confidential_bookstore.secret import Secret
from coordinator.manifest import SecretSpec
from coordinator.pki.authority import Authority
from coordinator.pki.building import RandomBytes
from coordinator.secret_value import SecretType, SecretValue
from coordinator.secrets.generation import generate_unique
from coordinator.secrets.lifecycle import SecretValues


class SecretsOnDemand(Mapping[str, SecretValue]):
    """All secrets of a manifest by name, sorted; looking one up may take seconds if it is an RSA key."""

    def __init__(self, specs: Mapping[str, SecretSpec], make: Callable[[SecretSpec], SecretValue]) -> None:
        self._specs = specs
        self._make = make
        self._made: dict[str, SecretValue] = {}

    def __getitem__(self, name: str) -> SecretValue:
        if name not in self._made:
            self._made[name] = self._make(self._specs[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._specs))

    def __len__(self) -> int:
        return len(self._specs)


def secrets_of_marble(
    specs: Mapping[str, SecretSpec],
    values: SecretValues,
    authority: Authority,
    *,
    root_secret: Secret[bytes],
    previous_root_secret: Secret[bytes],
    marble_type: str,
    uuid: UUID,
    binding: bool,
    now: dt.datetime,
    random: RandomBytes = os.urandom,
) -> tuple[SecretsOnDemand, SecretsOnDemand]:
    """The present and the previous generation for one marble.

    A certificate of the marble's own has no previous one: it is made anew at every activation, so the present one
    stands for it.

    Args:
        specs: of all secrets of the manifest.
        values: of shared and uploaded ones.
        authority: signs certificates.
        root_secret: what the marble's own symmetric keys are derived from,
        previous_root_secret: and those of the previous generation.
        marble_type: of the marble.
        uuid: of the marble.
        binding: whether the marble type goes into its keys.
        now: with a time zone.
        random: bytes for serial numbers.
    """

    def own(spec: SecretSpec, root: Secret[bytes]) -> SecretValue:
        return generate_unique(
            spec, authority, root, marble_type=marble_type, uuid=uuid, binding=binding, now=now, random=random
        )

    def make(spec: SecretSpec) -> SecretValue:
        return own(spec, root_secret) if spec.is_unique else values.present.get(spec.name) or empty_value(spec)

    present = SecretsOnDemand(specs, make)

    def make_previous(spec: SecretSpec) -> SecretValue:
        if spec.is_unique and spec.type is SecretType.SYMMETRIC_KEY:
            return own(spec, previous_root_secret)
        return values.previous.get(spec.name) or present[spec.name]

    return present, SecretsOnDemand(specs, make_previous)


def empty_value(spec: SecretSpec) -> SecretValue:
    """What stands for a secret that nobody has uploaded yet; templates refuse to encode it."""
    nothing = Secret(b"")
    return SecretValue(
        type=spec.type,
        size=spec.size,
        shared=spec.shared,
        user_defined=spec.user_defined,
        valid_for=spec.valid_for,
        private=nothing,
        public=nothing,
    )
