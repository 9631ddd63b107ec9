"""The section `Config`: how the coordinator itself behaves."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from coordinator.manifest.fields import Node, one_of

_HSM_GATE = "AzureHSMSealing"


class SealMode(enum.Enum):
    """Which coordinators can unseal the state on the same machine."""

    PRODUCT_KEY = "ProductKey"  # this signer's product, also in a newer version
    UNIQUE_KEY = "UniqueKey"  # this very code
    DISABLED = "Disabled"  # none: every start needs a recovery


class FeatureGate(enum.Enum):
    """Parts of the client API that are off unless the manifest names them, in any case."""

    SIGN_QUOTE = "SignQuoteEndpoint"
    MONOTONIC_COUNTER = "MonotonicCounter"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSpec:
    """The settings. Thresholds are as written; 0 means all, see `Manifest`."""

    seal_mode: SealMode = SealMode.PRODUCT_KEY
    feature_gates: frozenset[FeatureGate] = frozenset()
    update_threshold: int = 0
    recovery_threshold: int = 0
    rotate_root_secret: bool = False


def read_config(node: Node) -> ConfigSpec:
    """Read and check `Config`. Whether there are users and keys enough for the thresholds is checked by the caller.

    Raises:
        ManifestError: a field is malformed, or has a value that does not exist.
    """
    fields = node.fields(("SealMode", "FeatureGates", "UpdateThreshold", "RecoveryThreshold", "RotateRootSecret"))
    seal_mode = fields.get("SealMode")
    return ConfigSpec(
        seal_mode=_read_seal_mode(seal_mode) if seal_mode else SealMode.PRODUCT_KEY,
        feature_gates=frozenset(_read_gate(item) for item in fields.items("FeatureGates")),
        update_threshold=fields.integer("UpdateThreshold"),
        recovery_threshold=fields.integer("RecoveryThreshold"),
        rotate_root_secret=fields.boolean("RotateRootSecret"),
    )


def _read_seal_mode(node: Node) -> SealMode:
    text = node.text()
    if not text:
        return SealMode.PRODUCT_KEY
    for mode in SealMode:
        if mode.value == text:
            return mode
    raise node.error("unknown seal mode", got=ascii(text[:80]), expected=one_of(mode.value for mode in SealMode))


def _read_gate(node: Node) -> FeatureGate:
    text = node.text()
    for gate in FeatureGate:
        if gate.value.lower() == text.lower():
            return gate
    if text.lower() == _HSM_GATE.lower():
        raise node.error(
            f"{_HSM_GATE} is not available: this coordinator has no HSM sealing",
            hint="leave the gate out; the state is sealed to the machine",
        )
    raise node.error("unknown feature gate", got=ascii(text[:80]), expected=one_of(gate.value for gate in FeatureGate))
