"""The policy of a manifest: what each marble is told about who may call it, and how its own calls are shared.

The rules are in the variables MARBLE_ACCESS_RULES of each marble and MARBLE_TRAFFIC_SPLITS of those that call what is
split. Both are made from SMI documents, always as a whole, and nothing else of a manifest is touched here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.errors import ManifestError
from confidential_bookstore.policy.access import AccessRules
from confidential_bookstore.policy.smi.marble_rules import access_rules, traffic_splits
from confidential_bookstore.policy.smi.model import Documents
from confidential_bookstore.policy.splits import TrafficSplits

ACCESS_RULES, TRAFFIC_SPLITS = "MARBLE_ACCESS_RULES", "MARBLE_TRAFFIC_SPLITS"


@dataclass(frozen=True, slots=True)
class MarblePolicy:
    """What one marble is told."""

    rules: AccessRules
    splits: TrafficSplits

    def differs_in(self, other: MarblePolicy) -> tuple[str, ...]:
        """The variables that the other one has otherwise."""
        return tuple(
            name
            for name, different in (
                (ACCESS_RULES, self.rules.to_json() != other.rules.to_json()),
                (TRAFFIC_SPLITS, self.splits != other.splits),
            )
            if different
        )


def compiled(documents: Documents) -> dict[str, MarblePolicy]:
    """What the documents say, for each marble type of the registry."""
    splits = traffic_splits(documents)
    return {
        name: MarblePolicy(rules, splits.get(name, TrafficSplits())) for name, rules in access_rules(documents).items()
    }


def policy_in(manifest: Mapping[str, Any]) -> dict[str, MarblePolicy]:
    """What a manifest says, for each of its marbles. A variable that is not there says nothing.

    Raises:
        ManifestError: it has no marbles, or a variable is neither text nor {"Data": text}.
        ConfigurationError: a variable does not hold rules or splits.
    """
    return {
        name: MarblePolicy(
            AccessRules.from_json(_text(name, environment, ACCESS_RULES)),
            TrafficSplits.from_json(_text(name, environment, TRAFFIC_SPLITS)),
        )
        for name, environment in ((name, _environment(marble)) for name, marble in _marbles(manifest).items())
    }


def with_policy(manifest: Mapping[str, Any], documents: Documents) -> dict[str, Any]:
    """The manifest with the documents' policy in place of its own, and everything else as it was.

    Raises:
        ManifestError: manifest and registry do not have the same marbles.
    """
    changed = copy.deepcopy(dict(manifest))
    policies = compiled(documents)
    require_same_marbles(_marbles(changed), documents)
    for name, policy in policies.items():
        environment = changed["Marbles"][name].setdefault("Parameters", {}).setdefault("Env", {})
        environment.pop(TRAFFIC_SPLITS, None)
        environment[ACCESS_RULES] = _variable(policy.rules.to_json())
        if policy.splits != TrafficSplits():
            environment[TRAFFIC_SPLITS] = _variable(policy.splits.to_json())
    return changed


def to_bytes(manifest: Mapping[str, Any]) -> bytes:
    """As JSON; the same manifest gives the same bytes."""
    return json.dumps(manifest, indent=2, sort_keys=True).encode()


def require_same_marbles(names: Iterable[str], documents: Documents) -> None:
    """Each marble of one is there in the other.

    Raises:
        ManifestError: they differ; a marble without a service cannot be told who may call it.
    """
    known = {service.marble: service for service in documents.services.values() if service.marble}
    names = set(names)
    if extra := sorted(names - known.keys()):
        raise ManifestError(
            f"marble {extra[0]} is no service of the registry",
            got=f"marbles {_list(names)} and services of {_list(known)}",
            hint=f"add a MeshService with `marble: {extra[0]}`, or take the marble out",
        )
    if missing := sorted(known.keys() - names):
        raise ManifestError(
            f"marble {missing[0]} of the registry ({known[missing[0]].origin}) is not in the manifest",
            got=f"marbles {_list(names)} and services of {_list(known)}",
            hint="add it to `Marbles`, or take `marble` out of its MeshService",
        )


def _marbles(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    marbles = manifest.get("Marbles")
    if not isinstance(marbles, dict) or not all(isinstance(marble, dict) for marble in marbles.values()):
        raise ManifestError("Marbles: wrong type, or missing", expected='{NAME: {"Package": NAME}}')
    return marbles


def _environment(marble: Mapping[str, Any]) -> Mapping[str, Any]:
    return (marble.get("Parameters") or {}).get("Env") or {}


def _text(marble: str, environment: Mapping[str, Any], name: str) -> str:
    value = environment.get(name, "")
    if isinstance(value, dict) and str(value.get("Encoding", "")).lower() in ("", "string"):
        value = value.get("Data")
    if not isinstance(value, str):
        raise ManifestError(f"Marbles.{marble}.Parameters.Env.{name}: cannot be read", expected="text, or Data as text")
    return value


def _variable(text: str) -> dict[str, object]:
    return {"Data": text, "NoTemplates": True}


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
