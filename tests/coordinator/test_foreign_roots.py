"""Evidence under another root than the pinned one: refused by the running coordinator, in both directions."""

from __future__ import annotations

import json

import grpclib
import pytest
from coordinators import manifest, set_manifest
from grpclib.const import Status

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.attestation.collateral import CachedCollateral
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.verifier import Verifier

REAL = "sgx-v3-00606a000000-c81a90ee"


class Fetched:
    """Collateral for the other root; refused before anybody asks for it."""

    asked = 0

    async def collateral_for(self, quote):
        self.asked += 1
        raise AssertionError("a quote under a foreign root needs no collateral")


async def refusal(coordinator, marble, **changes) -> tuple[Status, str]:
    with pytest.raises(grpclib.GRPCError) as caught:
        await marble.activate(coordinator.mesh_port, **changes)
    return caught.value.status, caught.value.message


async def test_a_simulated_quote_never_passes_where_intels_root_is_pinned(start, bookstore, machine):
    collateral = Fetched()
    verifier = Verifier(TrustRoot.intel(), CachedCollateral(collateral))
    async with start(verifier=verifier) as coordinator:
        await set_manifest(coordinator, manifest())
        status, message = await refusal(coordinator, bookstore())
    assert status is Status.PERMISSION_DENIED
    assert "chain ends in another root" in message
    assert f"got {TrustRoot.from_pem(machine.root_pem).key_id}, expected {INTEL_ROOT_KEY_ID}" in message
    assert collateral.asked == 0


async def test_a_real_quote_does_not_pass_where_the_simulated_root_is_pinned(coordinator, bookstore, machine, vectors):
    expected = json.loads((vectors / REAL / "expected.json").read_text())
    assert expected["result"] == "accept"
    status, message = await refusal(coordinator, bookstore(), Quote=(vectors / REAL / "quote.bin").read_bytes())
    assert status is Status.PERMISSION_DENIED
    assert "chain ends in another root" in message
    assert f"got {INTEL_ROOT_KEY_ID}, expected {TrustRoot.from_pem(machine.root_pem).key_id}" in message
