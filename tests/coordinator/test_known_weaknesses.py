"""What is known to be weak in MarbleRun 1.9.1, and a test for each that it is not so here.

Number 12 of `DEFECTS` would be the injector of Kubernetes pods, which this project does not have. Of 10, documentation,
and 18, structure, there is what a test can show. One point of 15 is left, because it is the interface: what a manifest
puts into `Env` is in the environment of the program, and so in that of its children; `Files` are not.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import json
import re
from pathlib import Path

import pytest
from coordinators import client_of, manifest, page, set_manifest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.exceptions import GRPCError
from named_tests import ROOT, known_tests, missing
from raw_connection import connected
from structlog.testing import capture_logs
from test_client_api_recovery import NAMES, locked, upload

from confidential_bookstore.errors import StateError
from confidential_bookstore.secret import Secret
from coordinator.app import Coordinator
from coordinator.deployment import updates
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.state import Phase
from coordinator.manifest import load_manifest
from coordinator.monitoring.events import utc_now
from coordinator.pki.authority import Authority
from coordinator.sealing.directory import DATA_FILE, KEY_FILE

__all__ = ["locked"]

HERE = "tests/coordinator/test_known_weaknesses.py"
API, CORE, MARBLE = "tests/coordinator", "tests/coordinator_core", "tests/marble"

SETTINGS = f"{API}/test_coordinator_settings.py"
LISTED = f"{CORE}/test_recovery_session.py::TestListedShares"

DEFECTS = {
    1: [
        f"{API}/test_marble_api.py::test_a_bad_uuid_is_the_callers_mistake",
        f"{CORE}/test_parameters.py::TestUuid::test_the_nil_uuid",
    ],
    2: [
        f"{API}/test_marble_api.py::test_a_slow_activation_holds_up_nobody",
        f"{API}/test_marble_api.py::test_large_keys_hold_up_nobody",
        f"{CORE}/test_parameters.py::TestSecrets::test_only_what_is_used_is_made",
    ],
    3: [f"{HERE}::test_unknown_paths_end_no_connection_where_requests_are_measured"],
    4: ["tests/cli/test_evidence.py::test_good_evidence"],
    5: [f"{HERE}::test_addresses_in_certificates_outlive_updates_of_every_kind"],
    6: [
        "tests/owner/test_effective.py::test_only_what_was_raised_since_the_last_full_manifest",
        "tests/cli/test_manifest_commands.py::test_the_manifest_in_force",
    ],
    7: [f"{HERE}::test_a_recovered_state_can_be_recovered_again"],
    8: [
        f"{HERE}::test_manifests_that_fail_disturb_no_recovery",
        f"{API}/test_whole_life.py::test_nobody_without_a_share_disturbs_a_recovery",
    ],
    9: [
        f"{HERE}::test_strangers_add_nothing_to_metrics_and_little_to_events",
        f"{API}/test_monitoring.py::test_refusals_never_push_activations_out_and_nothing_grows",
        f"{API}/test_monitoring.py::test_uuids_are_labels_of_successes_up_to_a_bound",
    ],
    10: [
        f"{HERE}::test_documents_name_states_and_variables_as_the_code_does",
        f"{HERE}::test_documents_say_that_starts_are_counted",
        f"{CORE}/test_manifest_reference.py::test_every_key_is_explained",
        f"{CORE}/test_manifest_sections.py::TestConfig::test_seal_modes",
        "tests/cli/test_cli_reference.py::test_the_page_has_it_with_an_example",
    ],
    11: [
        f"{LISTED}::test_any_of_them_in_any_order_and_what_remains_counts_from_the_threshold",
        "tests/owner/test_recovery.py::test_plain_secrets_stay_as_they_are",
    ],
    13: [
        f"{CORE}/test_manifest_rules.py::TestPackages::test_refused",
        f"{CORE}/test_manifest_rules.py::TestPackages::test_packages_that_no_marble_uses_are_checked_too",
        f"{CORE}/test_manifest_document.py::test_unknown_keys_are_refused_with_path_and_the_nearest_known_one",
    ],
    14: [
        f"{HERE}::test_what_is_not_allowed_in_a_state_is_an_error_and_nothing_more",
        f"{API}/test_coordinator_state.py::test_what_is_not_allowed_is_refused",
    ],
    15: [
        f"{MARBLE}/test_activation.py::test_waits_for_a_coordinator_that_is_not_ready",
        f"{MARBLE}/test_activation.py::test_coordinator_that_never_finishes_its_answer",
        f"{MARBLE}/test_activation.py::test_files_are_written_in_one_step",
        f"{MARBLE}/test_activation.py::test_what_a_crash_left_behind_does_not_stop_the_next_start",
    ],
    16: [
        f"{API}/test_coordinator_app.py::test_sigterm_lets_a_running_activation_finish",
        f"{API}/test_state_stores.py::test_power_may_fail_at_every_step_twice_in_a_row",
        f"{API}/test_killed_writes.py::test_the_old_state_or_the_new_one",
    ],
    17: [
        f"{HERE}::test_infrastructures_are_enforced",
        f"{CORE}/test_manifest_sections.py::TestInfrastructures::test_not_allowed",
    ],
    18: [
        f"{HERE}::test_the_order_of_a_manifest_shows_nowhere",
        f"{API}/test_coordinator_app.py::test_a_change_that_fails_changes_nothing",
        f"{CORE}/test_recovery_data_key.py::test_shares_go_by_name_whatever_the_order",
        f"{HERE}::test_addresses_in_certificates_outlive_updates_of_every_kind",
    ],
}

# What MarbleRun leaves out on purpose, and is there here.
LIMITS = {
    "marbles verify the coordinator": [
        f"{MARBLE}/test_activation.py::test_untrusted_coordinator_gets_nothing",
        f"{MARBLE}/test_activation.py::test_relayed_quote_of_a_genuine_coordinator",
        f"{MARBLE}/test_activation.py::test_mesh_server_of_somebody_else",
    ],
    "updates revoke certificates": [
        f"{API}/test_marbles_and_updates.py::test_a_revoked_type_is_out_within_ten_seconds_and_nobody_else_notices",
        f"{MARBLE}/test_rotation.py::test_an_update_revokes_one_type_and_nobody_else_notices",
    ],
    "certificates of marbles are short-lived, and renewed": [
        f"{API}/test_marble_api.py::test_its_certificate_leads_to_both_roots",
        f"{MARBLE}/test_runtime.py::test_renewal_under_load_without_a_failed_call",
    ],
    "no marble gets the name of another": [
        f"{HERE}::test_no_marble_gets_the_name_of_another",
        f"{MARBLE}/test_server_and_channel.py::test_names_that_a_host_asked_for_do_not_count",
    ],
    "an old state is noticed": [
        f"{API}/test_whole_life.py::test_an_older_state_is_noticed",
        f"{API}/test_sealed_state.py::test_an_old_state_is_noticed",
    ],
    "infrastructures are enforced": [f"{HERE}::test_infrastructures_are_enforced"],
    "the nil UUID is refused": [f"{API}/test_marble_api.py::test_a_bad_uuid_is_the_callers_mistake"],
    "secrets are made when they are looked up": [
        f"{CORE}/test_secret_lifecycle.py::TestActivation::test_makes_only_what_its_marble_uses",
        f"{CORE}/test_template_bounds.py::TestLazySecrets::test_only_what_is_looked_up_is_made",
    ],
    "log and labels are bounded": [
        f"{HERE}::test_strangers_add_nothing_to_metrics_and_little_to_events",
        f"{API}/test_paced_log.py::test_one_line_a_second_with_the_number_of_those_left_out",
    ],
    "a mode without quotes is loud, and in no enclave": [
        f"{API}/test_interoperability.py::test_a_marble_without_a_quote_is_admitted_and_labelled",
        f"{API}/test_interoperability.py::test_it_is_in_the_log",
        f"{API}/test_interoperability.py::test_otherwise_no_quote_is_no_entrance",
        f"{SETTINGS}::test_the_enclave_lets_in_what_is_read_and_nothing_that_decides_who_is_who",
    ],
}


def test_every_weakness_has_a_test():
    assert set(DEFECTS) == set(range(1, 19)) - {12}
    named = [*itertools.chain(*DEFECTS.values(), *LIMITS.values())]
    assert all(DEFECTS.values())
    assert missing(named) == []
    left_out = known_tests(HERE) - set(named) - {f"{HERE}::test_every_weakness_has_a_test"}
    assert left_out == set()


async def test_unknown_paths_end_no_connection_where_requests_are_measured(coordinator: Coordinator, client):
    """Defect 3: with Prometheus on, they do in MarbleRun."""
    assert coordinator.status_port
    async with connected(client.port, client.http.connector._ssl) as (reader, writer):
        for path in ("/nothing", "/api/v3/status", "/api/v2/status/", "/%2e%2e/status"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 405 "), path
            size = int(re.search(rb"Content-Length: (\d+)", head)[1])
            assert json.loads(await reader.readexactly(size)) == {"status": "error", "data": None}
    metrics = (await page(coordinator.status_port, "/metrics"))[1]
    assert 'server_client_api_http_request_total{path="other",code="405",method="get"} 4' in metrics
    assert "nothing" not in metrics


def test_addresses_in_certificates_outlive_updates_of_every_kind():
    """Defect 5: a package update of MarbleRun loses addresses. And 18: its ways of updating have drifted apart."""
    now = utc_now()
    address = ipaddress.ip_address("192.0.2.7")
    authority = Authority.create(dns_names=["localhost", "coordinator.example"], ip_addresses=[address], now=now)
    raw = json.loads(manifest())
    user_pem = authority.root.public_bytes(Encoding.PEM).decode()  # any certificate
    raw["Users"] = {"alice": {"Certificate": user_pem, "Roles": ["versions", "owner"]}}
    raw["Roles"] = {
        "versions": {"ResourceType": "Packages", "ResourceNames": ["bookstore"], "Actions": ["UpdateSecurityVersion"]},
        "owner": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
    }
    first, _ = Deployment.begin(authority, Secret(bytes(32))).accept_manifest(json.dumps(raw).encode(), now)
    alice = first.manifest.users["alice"]
    raised, _ = updates.update(first, b'{"Packages":{"bookstore":{"SecurityVersion":3}}}', alice, now)
    raw["Marbles"]["another"] = {"Package": "bookstore"}
    replaced, _ = updates.update(raised, json.dumps(raw).encode(), alice, now)
    assert len({each.authority.marble_root for each in (first, raised, replaced)}) == 3
    for deployment in (first, raised, replaced):
        for certificate in (deployment.authority.intermediate, deployment.authority.marble_root):
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            assert address in names.get_values_for_type(x509.IPAddress)
            assert "coordinator.example" in names.get_values_for_type(x509.DNSName)


async def test_a_recovered_state_can_be_recovered_again(locked, start, settings):
    """Defect 7: what tells shares from junk is written once more after a recovery."""
    client, shares, _ = locked
    beginning = (settings.seal_directory / DATA_FILE).read_bytes().partition(b"}")[0]
    assert b'":true' in beginning
    for name in NAMES:
        await client.post("/api/v2/recover", upload(name, shares[name]))
    assert (await client.data("/api/v2/status"))["code"] == Phase.ACCEPTING_MARBLES
    assert (settings.seal_directory / DATA_FILE).read_bytes().partition(b"}")[0] == beginning
    copy = {name: (settings.seal_directory / name).read_bytes() for name in (DATA_FILE, KEY_FILE)}
    elsewhere = settings.seal_directory.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / DATA_FILE).write_bytes(copy[DATA_FILE])
    async with start({"seal_directory": elsewhere}) as again, client_of(again) as second:
        assert (await second.data("/api/v2/status"))["code"] == Phase.RECOVERY
        status, _ = await second.post("/api/v2/recover", upload(NAMES[0], bytes(32)))
        assert status == 500
        for name in reversed(NAMES):
            status, answer = await second.post("/api/v2/recover", upload(name, shares[name]))
            assert status == 200, answer
        assert (await second.data("/api/v2/status"))["code"] == Phase.ACCEPTING_MARBLES


async def test_manifests_that_fail_disturb_no_recovery(locked, settings):
    """Defect 8. One fails when it is read, another one when it is sealed, with its own shares made already."""
    client, shares, (_, before) = locked
    await client.post("/api/v2/recover", upload(NAMES[0], shares[NAMES[0]]))
    assert (await client.set_manifest(b'{"Packages": {}}'))[0] == 500
    settings.seal_directory.rename(settings.seal_directory.with_name("away"))
    settings.seal_directory.write_bytes(b"")  # no directory
    assert (await client.set_manifest(manifest()))[0] == 500
    settings.seal_directory.unlink()
    settings.seal_directory.with_name("away").rename(settings.seal_directory)
    status, answer = await client.post("/api/v2/recover", upload(NAMES[1], shares[NAMES[1]]))
    assert (status, answer["data"] and answer["data"]["remaining"]) == (200, 0), answer
    assert await client.data("/api/v2/manifest") == before


async def test_strangers_add_nothing_to_metrics_and_little_to_events(coordinator, bookstore):
    """Defect 9: labels are made of what anybody sends, before any check, and kept for ever."""

    def series(text: str) -> set[str]:
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    port, stranger = coordinator.status_port, bookstore()
    with pytest.raises(GRPCError):
        await stranger.activate(coordinator.mesh_port, MarbleType="unknown")
    before = series((await page(port, "/metrics"))[1])
    for number in range(40):
        with pytest.raises(GRPCError):
            await stranger.activate(coordinator.mesh_port, MarbleType=f"type-{number}" * 20, UUID=f"uuid-{number}")
        with pytest.raises(GRPCError):
            await stranger.activate(coordinator.mesh_port, Quote=b"", UUID=f"uuid-{number}")
    after = (await page(port, "/metrics"))[1]
    assert len(series(after) - before) <= 2  # of the known type, which is one
    assert "type-" not in after
    assert "uuid-" not in after
    events = (await page(port, "/events"))[1]
    assert len(events) < 200_000


MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("coordinator/*.md"), *ROOT.glob("docs/**/*.md")]


def test_documents_name_states_and_variables_as_the_code_does():
    """Defect 10: status codes that are swapped, names that do not exist."""
    states = (ROOT / "coordinator" / "README.md").read_text()
    words = {"recovery": Phase.RECOVERY, "accepting marbles": Phase.ACCEPTING_MARBLES}
    words |= {"accepting a manifest": Phase.ACCEPTING_MANIFEST, "uninitialised": Phase.UNINITIALIZED}
    for word, phase in words.items():
        assert re.search(rf"\b{phase:d} {word}", states), word
    code = "".join(
        path.read_text()
        for folder in ("coordinator", "confidential_bookstore", "cli", "services", "demo")
        for path in Path(ROOT / folder).rglob("*")
        if path.suffix in {".py", ".json"}
    )
    named = {name for path in MARKDOWN for name in re.findall(r"\b(?:EDG|CBS)_[A-Z_]+[A-Z]\b", path.read_text())}
    assert len(named) > 20
    assert {name for name in named if name not in code} == set()
    metrics = {
        name
        for path in MARKDOWN
        for name in re.findall(r"\b(?:coordinator_marble|grpc_server|server_client_api)_[a-z_]+", path.read_text())
    }
    assert {name for name in metrics if name.removesuffix("_bucket") not in code} == set()


def test_documents_say_that_starts_are_counted():
    """Defect 10: MaxActivations counts starts, not instances."""
    text = (ROOT / "docs" / "reference" / "manifest.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| `MaxActivations`")]
    assert "start" in line
    assert "distinct" not in line


async def test_what_is_not_allowed_in_a_state_is_an_error_and_nothing_more(coordinator, client):
    """Defect 14: no panic, and no line of the log that says one state twice."""
    with capture_logs() as lines:
        for _ in range(2):
            assert (await client.set_manifest(manifest()))[0] == 500
        status, answer = await client.post("/api/v2/recover", {"recoverySecret": "AAAA"})
        assert (status, answer["message"]) == (500, "server is not in expected state")
    assert (await client.data("/api/v2/status"))["code"] == Phase.ACCEPTING_MARBLES
    assert [line for line in lines if line["log_level"] in {"error", "critical"}] == []
    with pytest.raises(StateError, match="server is not in expected state"):
        Deployment.begin(Authority.create(dns_names=[], now=utc_now()), Secret(bytes(32))).state.begin({}, bytes(32))


@pytest.mark.parametrize("too_new", [True, False])
async def test_infrastructures_are_enforced(start, bookstore, too_new):
    """Defect 17. A platform of any one of them is enough."""
    others = {} if too_new else {"this": {"PCESVN": 1}}
    async with start() as coordinator:
        await set_manifest(coordinator, manifest(Infrastructures={"newer": {"PCESVN": 60000}} | others))
        if not too_new:
            await bookstore().activate(coordinator.mesh_port)
            return
        with pytest.raises(GRPCError, match="marble verification failed: invalid infrastructure"):
            await bookstore().activate(coordinator.mesh_port)


async def test_no_marble_gets_the_name_of_another(coordinator, bookstore):
    """Hosts choose the names in a request: those of other types, alone or as in a cluster, are refused."""
    for name in ("limited", "LIMITED", "limited.shop.svc.cluster.local", "limited.marbles.internal", "*.local"):
        with pytest.raises(GRPCError, match="certificate request asks for"):
            await bookstore(dns_names=("localhost", name)).activate(coordinator.mesh_port)
    await bookstore(dns_names=("bookstore", "bookstore.shop.svc.cluster.local")).activate(coordinator.mesh_port)


def test_the_order_of_a_manifest_shows_nowhere():
    """Defect 18: the order of maps leaks into messages and into who gets which share."""
    document = json.loads(manifest())
    backwards = {key: dict(reversed(value.items())) for key, value in reversed(document.items())}
    one, other = (load_manifest(json.dumps(each).encode()) for each in (document, backwards))
    assert dataclasses.replace(one, raw=other.raw) == other
    for each in (document, backwards):
        each["Marbles"]["bookstore"]["Package"] = "unknown"
        each["Packages"] |= {"b": each["Packages"]["bookstore"], "a": each["Packages"]["bookstore"]}
    messages = set()
    for each in (document, backwards):
        with pytest.raises(Exception, match="one of a, b, bookstore") as refused:
            load_manifest(json.dumps(each).encode())
        messages.add(str(refused.value))
    assert len(messages) == 1
