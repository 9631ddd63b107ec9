"""Which values the secrets of a manifest have when it is set, and after an update. Pure, apart from making keys.

    set, update    shared, generated        made when the manifest is set
    update         symmetric, unchanged     kept, unless the root secret is rotated
                   certificate              made again below the new marble root
                   user-defined, unchanged  kept
                   removed                  gone, the previous generation too
                   defined differently      made again; what was uploaded has to be uploaded again

A rotation keeps the values before it as the previous generation, until the next one. Where a secret has no previous
value of its own, the present one stands for it.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from coordinator.manifest import SecretSpec
from coordinator.pki.authority import Authority
from coordinator.pki.building import RandomBytes
from coordinator.secret_value import SecretValue
from coordinator.secrets.generation import generate_shared


@dataclass(frozen=True, slots=True)
class SecretValues:
    """Shared and uploaded secrets by name: the present values, and those before the last rotation."""

    present: Mapping[str, SecretValue] = field(default_factory=dict, repr=False)
    previous: Mapping[str, SecretValue] = field(default_factory=dict, repr=False)


def first_values(
    specs: Mapping[str, SecretSpec], authority: Authority, now: dt.datetime, random: RandomBytes = os.urandom
) -> SecretValues:
    """When a manifest is set. Takes seconds if there are RSA keys.

    Raises:
        ManifestError: a certificate would have ended already.
    """
    return SecretValues(
        {name: generate_shared(spec, authority, now, random) for name, spec in specs.items() if _is_made(spec)}
    )


def values_after_update(
    old_specs: Mapping[str, SecretSpec],
    values: SecretValues,
    specs: Mapping[str, SecretSpec],
    authority: Authority,
    *,
    rotate: bool,
    now: dt.datetime,
    random: RandomBytes = os.urandom,
) -> SecretValues:
    """When an update is applied.

    Args:
        old_specs: of the manifest that was in force.
        values: of these.
        specs: of the manifest that comes into force.
        authority: with the new marble root.
        rotate: whether the root secret is rotated.
        now: with a time zone.
        random: bytes of keys and serial numbers.

    Raises:
        ManifestError: a certificate would have ended already.
    """
    unchanged = {name for name, spec in specs.items() if name in old_specs and _same(spec, old_specs[name])}
    present: dict[str, SecretValue] = {}
    for name, spec in specs.items():
        kept = name in unchanged and name in values.present
        if kept and (spec.user_defined or not (rotate or spec.type.is_certificate)):
            present[name] = values.present[name]
        elif _is_made(spec):
            present[name] = generate_shared(spec, authority, now, random)
    before = values.present if rotate else values.previous
    return SecretValues(present, {name: value for name, value in before.items() if name in unchanged})


def renewed_certificates(
    specs: Mapping[str, SecretSpec],
    values: SecretValues,
    authority: Authority,
    now: dt.datetime,
    random: RandomBytes = os.urandom,
) -> SecretValues:
    """When only the marble root is new: certificates are made again, everything else stays."""
    return values_after_update(specs, values, specs, authority, rotate=False, now=now, random=random)


def _is_made(spec: SecretSpec) -> bool:
    return spec.shared and not spec.user_defined


def _same(spec: SecretSpec, old: SecretSpec) -> bool:
    """What MarbleRun compares: the template of a certificate does not count, since certificates are made again."""
    return (spec.type, spec.size, spec.shared, spec.user_defined, spec.valid_for) == (
        old.type,
        old.size,
        old.shared,
        old.user_defined,
        old.valid_for,
    )
