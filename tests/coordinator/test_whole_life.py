"""A deployment from its first start to its recovery, with a manifest that uses every feature, over the real ports."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from api_users import api_user, manifest_of_users, recovery_key, recovery_public_pem
from coordinators import SIGNER, certificates, client_of, page
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

from confidential_bookstore.errors import RollbackDetected
from coordinator.sealing.directory import DATA_FILE, KEY_FILE, OLD

HOLDERS = ("one", "two", "three")
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def everything(threshold: int = 0, **changes) -> bytes:
    """Every section of a manifest."""
    marbles = {
        "bookstore": {
            "Package": "bookstore",
            "Parameters": {
                "Files": {
                    "/etc/raw": "{{ raw .Secrets.own }}",
                    "/etc/ca.json": {
                        "Data": base64.b64encode(b'{"ca": "{{ js (pem .MarbleRun.RootCA.Cert) }}"}').decode(),
                        "Encoding": "base64",
                    },
                    "/etc/plain": {"Data": "{{ as it is }}", "NoTemplates": True},
                },
                "Env": {
                    "OWN": "{{ hex .Secrets.own }}",
                    "BEFORE": "{{ hex .Previous.Secrets.own }}",
                    "CERT": "{{ pem .Secrets.certificate.Cert }}",
                    "NAMES": "{{ range $name, $secret := .Secrets }}{{ $name }} {{ end }}",
                },
                "Argv": ["bookstore", "--serve"],
            },
            "TLS": ["web"],
        },
        "limited": {"Package": "bookstore", "MaxActivations": 2, "DisableSecretBinding": True},
    }
    sections = {
        "Packages": {
            "bookstore": {
                "SignerID": SIGNER.hex(),
                "ProductID": 3,
                "SecurityVersion": 2,
                "AcceptedTCBStatuses": ["UpToDate", "SWHardeningNeeded"],
                "AcceptedAdvisories": ["INTEL-SA-00000"],
            }
        },
        "Marbles": marbles,
        "Infrastructures": {"here": {"PCESVN": 1}, "elsewhere": {"PCESVN": 60000}},
        "RecoveryKeys": {name: recovery_public_pem(name) for name in HOLDERS},
        "TLS": {"web": {"Incoming": [{"Port": "8443"}], "Outgoing": [{"Addr": "warehouse", "Port": "3306"}]}},
        "Config": {
            "SealMode": "ProductKey",
            "FeatureGates": ["SignQuoteEndpoint", "MonotonicCounter"],
            "UpdateThreshold": 2,
            "RecoveryThreshold": threshold,
        },
    }
    return manifest_of_users(**(sections | changes))


@contextlib.asynccontextmanager
async def asking(coordinator, user: str | None = None) -> AsyncIterator:
    async with client_of(coordinator, api_user(user).tls() if user else None) as client:

        async def post(path: str, content) -> dict:
            status, answer = await client.post(f"/api/v2/{path}", content)
            assert status == 200, answer
            return answer["data"]

        client.ok = post
        yield client


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def shares_of(recovery_secrets: dict[str, str]) -> dict[str, bytes]:
    return {name: recovery_key(name).decrypt(base64.b64decode(text), OAEP) for name, text in recovery_secrets.items()}


def upload(name: str, share: bytes) -> dict[str, str]:
    signature = recovery_key(name).sign(share, padding.PKCS1v15(), hashes.SHA256())
    return {"recoverySecret": b64(share), "recoverySecretSignature": b64(signature)}


async def state_of(coordinator) -> int:
    async with asking(coordinator) as client:
        return (await client.data("/api/v2/status"))["code"]


async def test_set_activate_update_secrets_recover(start, settings, bookstore, machine):
    marble = bookstore()
    async with start() as running:
        assert await state_of(running) == 2
        async with asking(running) as client:
            set_data = await client.ok("manifest", {"manifest": b64(everything(threshold=2))})
        shares = shares_of(set_data["RecoverySecrets"])
        assert {len(share) for share in shares.values()} == {33}
        first = await marble.activate(running.mesh_port)
        assert first.Files["/etc/raw"].hex() == first.Env["OWN"].decode()
        assert first.Files["/etc/plain"] == b"{{ as it is }}"
        (marble_root,) = certificates(first.Env["MARBLE_PREDEFINED_ROOT_CA"])
        text = json.loads(first.Files["/etc/ca.json"])["ca"]
        assert text.encode() == marble_root.public_bytes(serialization.Encoding.PEM)
        assert first.Env["NAMES"] == b"badge certificate note own shared uploaded "
        assert set(json.loads(first.Env["MARBLE_TTLS_CONFIG"])["tls"]) == {"Incoming", "Outgoing"}

        async with asking(running, "alice") as alice:
            await alice.ok("secrets", {"secrets": {"note": {"Key": b64(b"hello")}}})
            assert (await alice.data("/api/v2/secrets?s=note"))["secrets"]["note"]["Private"] == b64(b"hello")
            await alice.ok("update", {"manifest": b64(b'{"Packages":{"bookstore":{"SecurityVersion":3}}}')})
        with pytest.raises(Exception, match="SecurityVersion: got 2, expected at least 3"):
            await bookstore().activate(running.mesh_port)

        new = everything(threshold=2, Config={"UpdateThreshold": 2, "RecoveryThreshold": 2, "RotateRootSecret": True})
        async with asking(running, "alice") as alice, asking(running, "bob") as bob:
            assert (await alice.ok("update", {"manifest": b64(new)}))["missingAcknowledgments"] == 1
            assert (await bob.ok("update-manifest", {"manifest": b64(new)}))["missingAcknowledgments"] == 0
        second = await marble.activate(running.mesh_port)
        assert second.Env["BEFORE"] == first.Env["OWN"] != second.Env["OWN"]
        assert second.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"] == first.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"]
        assert second.Env["MARBLE_PREDEFINED_ROOT_CA"] != first.Env["MARBLE_PREDEFINED_ROOT_CA"]
        async with asking(running) as client:
            log = [json.loads(line)["update"] for line in (await client.data("/api/v2/update"))["updateLog"]]
        assert len(log) == 6

    (settings.seal_directory / KEY_FILE).unlink()
    async with start() as running:
        assert await state_of(running) == 1
        status, text = await page(running.status_port, "/readyz")
        assert (status, "recovery" in text) == (503, True)
        with pytest.raises(Exception, match="cannot accept marbles in current state"):
            await marble.activate(running.mesh_port)
        async with asking(running) as client:
            answer = await client.ok("recover", upload("one", shares["one"]))
            assert answer["remaining"] == 1
            # Encrypted for the coordinator's ephemeral key this time.
            public = (await client.data("/api/v2/recover/public-key"))["ephemeralPublicKey"]
            key = serialization.load_der_public_key(base64.b64decode(public))
            content = upload("three", shares["three"])
            content["recoverySecret"] = b64(key.encrypt(shares["three"], OAEP))
            assert (await client.ok("recover", content))["remaining"] == 0
        assert await state_of(running) == 3
        third = await marble.activate(running.mesh_port)
        for name in ("OWN", "BEFORE", "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA", "MARBLE_PREDEFINED_ROOT_CA"):
            assert third.Env[name] == second.Env[name]
        async with asking(running, "alice") as alice:
            assert (await alice.data("/api/v2/secrets?s=note"))["secrets"]["note"]["Private"] == b64(b"hello")
            manifest = await alice.data("/api/v2/manifest")
            (root,) = certificates(third.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"])
            signature = base64.b64decode(manifest["manifestSignatureRootECDSA"])
            root.public_key().verify(signature, new, ec.ECDSA(hashes.SHA256()))

    async with start() as running:  # the recovered key is sealed again
        assert await state_of(running) == 3


async def test_a_wrong_key_is_not_called_a_success(start, settings):
    """With one recovery key, nothing but the state itself tells a right secret from a wrong one."""
    holders = {"one": recovery_public_pem("one")}
    async with start() as running, asking(running) as client:
        await client.ok("manifest", {"manifest": b64(everything(RecoveryKeys=holders))})
    (settings.seal_directory / KEY_FILE).unlink()
    async with start() as running, asking(running) as client:
        answer = await client.ok("recover", upload("one", b"x" * 32))
        assert answer["remaining"] == 1
        assert answer["message"].startswith("Secret does not open the state.")


@pytest.mark.parametrize("keys", [1, 3])
async def test_recovery_with_one_key_or_with_all(start, settings, keys):
    holders = {name: recovery_public_pem(name) for name in HOLDERS[:keys]}
    async with start() as running, asking(running) as client:
        data = await client.ok("manifest", {"manifest": b64(everything(RecoveryKeys=holders))})
    shares = shares_of(data["RecoverySecrets"])
    (settings.seal_directory / KEY_FILE).unlink()
    async with start() as running, asking(running) as client:
        for left, name in zip(reversed(range(keys)), holders, strict=True):
            assert (await client.ok("recover", upload(name, shares[name])))["remaining"] == left
        assert await state_of(running) == 3


async def test_nobody_without_a_share_disturbs_a_recovery(start, settings):
    """A manifest that is refused, junk, and a share under a wrong signature leave it where it was."""
    async with start() as running, asking(running) as client:
        data = await client.ok("manifest", {"manifest": b64(everything())})
    shares = shares_of(data["RecoverySecrets"])
    (settings.seal_directory / KEY_FILE).unlink()
    sealed = (settings.seal_directory / DATA_FILE).read_bytes()
    async with start() as running, asking(running) as client:
        await client.ok("recover", upload("one", shares["one"]))
        assert (await client.post("/api/v2/manifest", {"manifest": b64(b"{}")}))[0] == 500
        for junk in (b"x" * 32, b"y" * 33, b"z" * 512):
            assert (await client.post("/api/v2/recover", upload("two", junk)))[0] == 500
        assert await state_of(running) == 1
        assert (settings.seal_directory / DATA_FILE).read_bytes() == sealed
        await client.ok("recover", upload("two", shares["two"]))
        status, answer = await client.post("/api/v2/recover", upload("one", shares["three"]))
        assert (status, "no matching recovery key" in answer["message"]) == (500, True)
        # Nothing tells which of the two that are signed by one holder is right, so both come again.
        assert (await client.ok("recover", upload("three", shares["three"])))["remaining"] == 1
        assert (await client.ok("recover", upload("one", shares["one"])))["remaining"] == 0


async def test_a_new_manifest_in_recovery_begins_anew_and_keeps_the_old_files(start, settings, bookstore):
    async with start() as running, asking(running) as client:
        await client.ok("manifest", {"manifest": b64(everything())})
        old_root = (await client.data("/api/v2/quote"))["cert"]
    (settings.seal_directory / KEY_FILE).write_bytes(b"damaged")
    sealed = (settings.seal_directory / DATA_FILE).read_bytes()
    async with start() as running, asking(running) as client:
        await client.ok("manifest", {"manifest": b64(everything())})
        assert await state_of(running) == 3
        assert (await client.data("/api/v2/quote"))["cert"] != old_root
        await bookstore().activate(running.mesh_port)
        status, _ = await client.post("/api/v2/recover", upload("one", b"x" * 32))
        assert status == 500
    assert (settings.seal_directory / (DATA_FILE + OLD)).read_bytes() == sealed


async def test_an_older_state_is_noticed(start, settings):
    files = (DATA_FILE, KEY_FILE)
    async with start() as running, asking(running) as client:
        await client.ok("manifest", {"manifest": b64(everything())})
        old = {name: (settings.seal_directory / name).read_bytes() for name in files}
        async with asking(running, "alice") as alice:
            await alice.ok("update", {"manifest": b64(b'{"Packages":{"bookstore":{"SecurityVersion":3}}}')})
    for name, content in old.items():
        (settings.seal_directory / name).write_bytes(content)
    with pytest.raises(RollbackDetected):
        async with start():
            pass


async def test_a_manifest_that_disables_sealing_leaves_nothing_on_disk(start, settings):
    async with start() as running, asking(running) as client:
        await client.ok("manifest", {"manifest": b64(everything(Config={"SealMode": "Disabled"}))})
        assert await state_of(running) == 3
    async with start() as running:
        assert await state_of(running) == 2
