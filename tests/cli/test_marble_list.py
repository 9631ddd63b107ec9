"""`cbs marble list`: from the page of a running coordinator, and from pages as others write them."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
from uuid import UUID

import pytest
from deployments import COORDINATOR, SIGNER, Deployment, cbs

from confidential_bookstore.attestation.collateral import DirectoryCollateral
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ActivationDenied, CoordinatorUnavailable
from confidential_bookstore.marble.activation import activate_once
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.owner.marbles import read_events

NAME = "7b2b6c63-7a67-4f2c-9c2c-2e5f2a3d1a10"


def event(**activation: object) -> dict[str, object]:
    return {"time": "2026-01-01T00:00:00Z", "activation": {"marbleType": "bookstore", "uuid": NAME, **activation}}


def test_nobody_yet(shop):
    address = f"127.0.0.1:{shop.status_port}"
    said = cbs("marble", "list", "--metrics", address)
    assert (said.code, said.out) == (0, "no marble has been admitted\n")
    assert cbs("marble", "list", "--metrics", address, "--output", "json").json == {"marbles": [], "refusals": []}


async def activate(shop: Deployment, mesh_port: int, identity: EnclaveIdentity) -> None:
    """As a marble of ours does it."""
    collateral = DirectoryCollateral(shop.folder / "collateral")
    verifier = Verifier(TrustRoot.from_pem(shop.machine.root_pem), collateral)
    settings = MarbleSettings(
        marble_type="bookstore",
        coordinator_address=f"127.0.0.1:{mesh_port}",
        coordinator_client_address=f"127.0.0.1:{shop.port}",
        dns_names=("localhost",),
    )
    trust = CoordinatorTrust(verifier, Package(unique_id=COORDINATOR.mr_enclave.hex()))
    await activate_once(settings, InProcessPlatform(shop.machine, identity), trust, UUID(NAME))


def test_admitted_and_refused(deployment):
    bookstore = EnclaveIdentity(mr_enclave=b"S" * 32, mr_signer=SIGNER, product_id=3, security_version=2)
    with deployment.running() as coordinator:
        manifest = deployment.write("manifest.json", deployment.manifest())
        assert cbs("manifest", "set", manifest, *deployment.connection).code == 0
        for _ in range(2):
            asyncio.run(activate(deployment, coordinator.mesh_port, bookstore))
        with pytest.raises(ActivationDenied):
            asyncio.run(activate(deployment, coordinator.mesh_port, COORDINATOR))
        page = ["--metrics", f"127.0.0.1:{deployment.status_port}"]
        listed = cbs("marble", "list", *page, "--output", "json").json
        said = cbs("marble", "list", *page).out
    (marble,), (refusal,) = listed["marbles"], listed["refusals"]
    assert (marble["marble_type"], marble["uuid"], marble["activations"]) == ("bookstore", NAME, 2)
    assert (marble["unique_id"], marble["security_version"]) == ((b"S" * 32).hex(), 2)
    assert (marble["simulated"], marble["valid"]) == (True, True)
    assert "ProductID" in refusal["reason"]
    assert (b"S" * 32).hex()[:16] in said
    assert "refused:" in said


def test_not_there(shop):
    said = cbs("marble", "list", "--metrics", f"127.0.0.1:{shop.port}")
    assert said.code == 2
    assert "EDG_COORDINATOR_PROMETHEUS_ADDR" in said.err


def test_what_a_page_says():
    now = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    page = [
        event(uniqueID="aa", securityVersion=1, simulated=True, certificateExpires="2026-01-01T12:00:00Z"),
        event(uniqueID="cc", securityVersion=2, simulated=True, certificateExpires="2026-01-03T00:00:00Z"),
        {"time": "2026-01-01T01:00:00Z", "denial": {"marbleType": "x", "uuid": "y", "reason": "invalid quote"}},
    ]
    (marble,), (refused,) = read_events(json.dumps(page).encode())
    assert (marble.unique_id, marble.security_version, marble.activations) == ("cc", 2, 2)
    assert marble.valid(now) is True
    assert marble.valid(dt.datetime(2026, 1, 4, tzinfo=dt.UTC)) is False
    assert (refused.marble_type, refused.reason) == ("x", "invalid quote")


def test_an_original_page_says_less(machine):
    identity = EnclaveIdentity(mr_enclave=b"S" * 32, mr_signer=SIGNER, product_id=3, security_version=2)
    quote = base64.b64encode(machine.quote_sgx(identity, bytes(64))).decode()
    page = [event(quote=quote), {"time": "t", "activation": {"marbleType": "other", "uuid": NAME, "quote": None}}]
    (marble, other), refused = read_events(json.dumps(page).encode())
    assert (marble.unique_id, marble.certificate_expires) == ((b"S" * 32).hex(), "")
    assert marble.valid(dt.datetime.now(dt.UTC)) is None
    assert (other.unique_id, refused) == ("", ())
    assert read_events(b"null\n") == ((), ())


@pytest.mark.parametrize("page", [b"", b"<html>", b"{}[", b'[{"activation": {}}]', b"[1]", b'{"a": 1}', b"[" * 100_000])
def test_not_such_a_page(page):
    with pytest.raises(CoordinatorUnavailable, match="cannot be read"):
        read_events(page)
