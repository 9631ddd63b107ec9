"""Several coordinators on one state, as processes: any of them may die at any time, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from balancer import Balancer
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from marble_clients import MarbleClients, activate, outcome, root_of
from replicas import Cluster, Ports, Replica, another_machine, eventually

from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.measurement import Interpreter, measure
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave, sign_enclave
from demo.workspace import PROJECT_ROOT

from api_users import api_user, manifest_of_users  # isort: skip  # of the coordinator's room, see `replicas`
from coordinators import BOOKSTORE  # isort: skip
from independent_marble import IndependentMarble  # isort: skip

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(120)]

RECOVERY, ACCEPTING_MANIFEST, ACCEPTING_MARBLES = 1, 2, 3
KNOWN = 2.0  # seconds until all of them know of a change
LIMIT = 24
MANIFEST = manifest_of_users(
    Marbles={
        "bookstore": {
            "Package": "bookstore",
            "Parameters": {"Files": {"/shared": "{{ hex .Secrets.shared }}"}, "Env": {"OWN": "{{ hex .Secrets.own }}"}},
        },
        "limited": {"Package": "bookstore", "MaxActivations": LIMIT},
    }
)


@dataclass(frozen=True)
class Built:
    """A coordinator that can keep its state in a database, and the first of the machines that it runs on."""

    signed: SignedEnclave
    machine: SimulatedPlatform


@pytest.fixture(scope="session")
def with_database() -> Built:
    machine = SimulatedPlatform.create()
    config, key = PROJECT_ROOT / "coordinator" / "sql.enclave.json", sigstruct.new_signing_key()
    return Built(sign_enclave(config, PROJECT_ROOT, key, machine.root_pem, date=dt.date(2026, 1, 1)), machine)


def signed_by_somebody_else(signed: SignedEnclave) -> SignedEnclave:
    signature = sigstruct.make(
        sigstruct.new_signing_key(),
        measure(signed.image, Interpreter.current()),
        product_id=signed.config.product_id,
        security_version=signed.config.security_version,
        debug=signed.config.debug,
        date=dt.date(2026, 1, 1),
    )
    return dataclasses.replace(signed, signature=signature)


@dataclass(frozen=True)
class Setting:
    """Makes coordinators of one state."""

    built: Built
    hosts: tuple[str, ...]
    ports: Ports
    folder: Path
    env: dict[str, str]

    def replica(
        self, host: str, *, machine: SimulatedPlatform | None = None, signed: SignedEnclave | None = None
    ) -> Replica:
        peers = ",".join(other for other in self.hosts if other != host)
        return Replica(
            host,
            self.ports,
            signed=signed or self.built.signed,
            machine=machine or another_machine(self.built.machine),
            env={"CBS_COORDINATOR_PEERS": peers, **self.env},
            log=self.folder / f"{host}.log",
        )

    def cluster(self, size: int = 3, *, one_machine: bool = False) -> Cluster:
        machine = another_machine(self.built.machine) if one_machine else None
        return Cluster(self.hosts[:size], lambda host: self.replica(host, machine=machine))


@pytest.fixture
async def setting(with_database, network, tmp_path) -> AsyncIterator[Callable[..., Setting]]:
    """A function that makes the setting of a store; with a PCCS, which ends with the test."""
    hosts = tuple(f"{network}.{number}" for number in range(21, 25))
    pccs = await start_pccs(with_database.machine)

    def make(**env: str) -> Setting:
        return Setting(with_database, hosts, Ports.free_at(hosts), tmp_path, {"CBS_PCCS_URL": pccs.url, **env})

    yield make
    await pccs.close()


@pytest.fixture
def database(setting, mariadb) -> Setting:
    return setting(EDG_STORE_BACKEND=mariadb.new_database())


@pytest.fixture
def new_marble(with_database) -> Callable[..., IndependentMarble]:
    """A genuine marble; its security version may be too low."""

    def made(marble_type: str = "bookstore", *, security_version: int = 9, **rest) -> IndependentMarble:
        identity = dataclasses.replace(BOOKSTORE, security_version=security_version)
        quoter = with_database.machine
        return IndependentMarble(marble_type, lambda data: quoter.quote_sgx(identity, data), **rest)

    return made


@contextlib.asynccontextmanager
async def running(setting: Setting, size: int = 3, **rest) -> AsyncIterator[tuple[Cluster, Balancer]]:
    """All of them accept marbles, behind one address for the Marble API."""
    async with setting.cluster(size, **rest) as cluster, Balancer(cluster.ready, setting.ports.mesh) as balancer:
        await cluster.start()
        await cluster.reaches(ACCEPTING_MANIFEST)
        answer = await cluster.replicas[0].set_manifest(MANIFEST)
        assert answer.status == 200, answer
        await cluster.reaches(ACCEPTING_MARBLES, within=KNOWN)
        await all_ready(cluster)
        yield cluster, balancer


async def all_ready(cluster: Cluster) -> None:
    async def ready() -> bool:
        return len(cluster.ready()) == len(cluster.replicas)

    await eventually(ready, within=20, what="all coordinators ready")


async def at_one(replica: Replica, setting: Setting, marble: IndependentMarble):
    """An activation at this one and no other."""
    async with Balancer(lambda: [replica.host], setting.ports.mesh) as door:
        return (await activate(marble, door.port))[0]


async def generation(replica: Replica) -> int:
    return (await replica.ask("/api/v2/generations")).body["generation"]


async def test_two_of_three_die_and_no_marble_notices(database, new_marble):
    async with running(database) as (cluster, balancer):
        first, second, third = cluster.replicas
        async with MarbleClients(new_marble, balancer.port) as clients:
            await clients.more(64)
            assert set(balancer.served) == {replica.host for replica in cluster.replicas}
            await first.kill()
            await clients.more(48)
            await first.start()  # one comes back before the next one dies ...
            await first.reaches(ACCEPTING_MARBLES)
            await second.kill()
            await clients.more(48)
            await third.kill()  # ... and one does not
            await clients.more(48)
            await asyncio.gather(second.start(), third.start())
            await all_ready(cluster)
            balancer.served.clear()
            await clients.more(64)
        assert clients.failures == []
        assert clients.roots == {await first.root()}
        assert {await replica.root() for replica in cluster.replicas} == clients.roots
        assert set(balancer.served) == {replica.host for replica in cluster.replicas}


async def test_a_limit_holds_across_all_of_them(database, new_marble):
    async with running(database) as (cluster, balancer):
        results = await asyncio.gather(*(outcome(new_marble("limited"), balancer.port) for _ in range(2 * LIMIT)))
        assert Counter(results) == {Status.OK: LIMIT, Status.PERMISSION_DENIED: LIMIT}
        granted = [len(replica.events("marble activated")) for replica in cluster.replicas]
        assert sum(granted) == LIMIT
        assert all(granted)


async def test_a_limit_is_never_exceeded_when_they_die(database, new_marble):
    """Who counts and dies before the answer has counted for nothing; never is one given that was not counted."""
    results: Counter[Status | None] = Counter()

    async def attempts(port: int) -> None:
        while not results[Status.PERMISSION_DENIED]:
            results[await outcome(new_marble("limited"), port)] += 1

    async with running(database) as (cluster, balancer):
        clients = [asyncio.create_task(attempts(balancer.port)) for _ in range(8)]
        for replica in cluster.replicas[:2]:
            await asyncio.sleep(0.1)
            await replica.kill()
            await replica.start()
        await asyncio.wait_for(asyncio.gather(*clients), 30)
    assert set(results) <= {Status.OK, Status.PERMISSION_DENIED, Status.UNAVAILABLE, None}
    assert LIMIT - 16 <= results[Status.OK] <= LIMIT


async def test_what_one_is_told_all_of_them_know(database, new_marble):
    async with running(database) as (cluster, balancer):
        first, second, third = cluster.replicas
        marbles = [new_marble(uuid="11111111-2222-4333-8444-555555555555") for _ in cluster.replicas]
        given = [
            await at_one(replica, database, marble) for replica, marble in zip(cluster.replicas, marbles, strict=True)
        ]
        assert len({parameters.Env["OWN"] for parameters in given}) == 1
        assert len({parameters.Files["/shared"] for parameters in given}) == 1
        outdated = new_marble(security_version=4)
        await at_one(third, database, outdated)

        async with MarbleClients(new_marble, balancer.port, pause=0.5) as clients:
            await clients.more(32)
            answer = await second.update({"bookstore": 5}, api_user("alice"))
            assert answer.status == 200, answer

            async def all_know() -> bool:
                return set(await asyncio.gather(*map(generation, cluster.replicas))) == {1}

            await eventually(all_know, within=KNOWN, what="the update at all of them")
            await clients.more(32)
        assert clients.failures == []
        assert clients.roots == {await first.root()}
        logs = [(await replica.ask("/api/v2/update")).body["updateLog"] for replica in cluster.replicas]
        assert logs[0] == logs[1] == logs[2]
        for replica in cluster.replicas:
            with pytest.raises(GRPCError, match="SecurityVersion"):
                await at_one(replica, database, outdated)
        again = await at_one(first, database, new_marble(uuid=marbles[0].uuid))
        assert again.Env["OWN"] == given[0].Env["OWN"]
        answers = [await replica.update({"bookstore": 5}, api_user("bob")) for replica in cluster.replicas]
        assert {answer.status for answer in answers} == {500}


async def test_a_coordinator_of_another_signer_gets_no_key(database, new_marble):
    stranger = database.replica(database.hosts[3], signed=signed_by_somebody_else(database.built.signed))
    async with running(database, 1) as (cluster, _):
        (member,) = cluster.replicas
        try:
            await stranger.start()
            await stranger.reaches(RECOVERY)
            await asyncio.sleep(KNOWN)
            assert await stranger.status() == RECOVERY
            status, reason = await stranger.ready()
            assert (status, "recovery" in reason) == (503, True)
            assert await stranger.root() != await member.root()
            with pytest.raises(GRPCError, match="cannot accept marbles") as refused:
                await at_one(stranger, database, new_marble())
            assert refused.value.status is Status.FAILED_PRECONDITION
            assert stranger.events("no key from another coordinator")
            assert not member.events("key of the shared state handed over")
        finally:
            await stranger.kill()


async def test_a_database_that_is_away_stops_changes_only(database, new_marble, mariadb):
    async with running(database) as (cluster, balancer):
        first = cluster.replicas[0]
        async with MarbleClients(new_marble, balancer.port, pause=0.5) as clients:
            mariadb.stop()
            try:
                await clients.more(48)
                answer = await first.update({"bookstore": 5}, api_user("alice"))
                assert (answer.status, "database" in answer.body) == (500, True)
                with pytest.raises(GRPCError, match="database") as refused:
                    await at_one(first, database, new_marble("limited"))
                assert refused.value.status is Status.UNAVAILABLE
                await asyncio.sleep(2)
            finally:
                mariadb.start()

            async def changes() -> bool:
                return (await first.update({"bookstore": 5}, api_user("alice"))).status == 200

            async def all_know() -> bool:
                return set(await asyncio.gather(*map(generation, cluster.replicas))) == {1}

            await eventually(changes, within=10, what="changes after the database is back")
            await eventually(all_know, within=KNOWN, what="the update at all of them")
            await clients.more(32)
        assert clients.failures == []
        for replica in cluster.replicas:  # not at every attempt, of which there were more
            assert 1 <= len(replica.events("shared state cannot be read")) <= 3
            assert replica.events("shared state can be read again")


async def test_all_of_them_die_and_any_begins_again_alone(database, new_marble):
    async with running(database) as (cluster, _):
        root = await cluster.replicas[0].root()
        before = await at_one(cluster.replicas[0], database, new_marble(uuid="11111111-2222-4333-8444-555555555555"))
        for replica in cluster.replicas:
            await asyncio.gather(*(other.kill() for other in cluster.replicas))
            await replica.start()
            await replica.reaches(ACCEPTING_MARBLES)
            assert await replica.root() == root
            after = await at_one(replica, database, new_marble(uuid="11111111-2222-4333-8444-555555555555"))
            assert after.Env["OWN"] == before.Env["OWN"]
            assert root_of(after) == root


async def test_who_waits_for_the_key_serves_the_shared_root_as_soon_as_it_comes(database, new_marble):
    """A new machine that finds nobody is in recovery, under a root that nobody knows; then a peer comes back."""
    async with running(database, 1) as (cluster, _):
        (member,) = cluster.replicas
        root = await member.root()
        await member.kill()
        newcomer = database.replica(database.hosts[1])
        try:
            await newcomer.start()
            await newcomer.reaches(RECOVERY)
            assert await newcomer.root() == await newcomer.shown() != root
            assert (await newcomer.ready())[0] == 503
            await member.start()
            await newcomer.reaches(ACCEPTING_MARBLES, within=15)
            assert await newcomer.root() == await newcomer.shown() == root
            assert (await newcomer.ready())[0] == 200
            assert root_of(await at_one(newcomer, database, new_marble())) == root
            await newcomer.kill()  # it has kept the key for its machine
            await member.kill()
            await newcomer.start()
            await newcomer.reaches(ACCEPTING_MARBLES)
        finally:
            await newcomer.kill()


async def test_two_processes_share_a_directory(setting, tmp_path, new_marble):
    shared = setting(EDG_STORE_BACKEND="directory", EDG_COORDINATOR_SEAL_DIR=str(tmp_path / "sealed"))
    results = {host: Counter() for host in shared.hosts[:2]}
    victim_is_writing = asyncio.Event()

    async def attempts(host: str) -> None:
        async with Balancer(lambda: [host], shared.ports.mesh) as door:
            while (status := await outcome(new_marble("limited"), door.port)) is Status.OK:
                results[host][status] += 1
                if host == victim.host and results[host][status] == 3:
                    victim_is_writing.set()
            results[host][status] += 1

    async with running(shared, 2, one_machine=True) as (cluster, _):
        survivor, victim = cluster.replicas
        assert await survivor.root() == await victim.root()
        writers = [asyncio.create_task(attempts(host)) for host in results for _ in range(3)]
        await asyncio.wait_for(victim_is_writing.wait(), 20)
        await victim.kill()
        await asyncio.wait_for(asyncio.gather(*writers), 30)
        assert results[victim.host] == {Status.OK: results[victim.host][Status.OK], None: 3}
        assert results[survivor.host] == {Status.OK: results[survivor.host][Status.OK], Status.PERMISSION_DENIED: 3}
        assert LIMIT - 3 <= results[victim.host][Status.OK] + results[survivor.host][Status.OK] <= LIMIT
        assert (await survivor.update({"bookstore": 5}, api_user("alice"))).status == 200
        await victim.start()
        await victim.reaches(ACCEPTING_MARBLES)
        assert await generation(victim) == 1
        assert (await victim.update({"bookstore": 6}, api_user("alice"))).status == 200

        async def known() -> bool:
            return await generation(survivor) == 2

        await eventually(known, within=KNOWN, what="an update through the directory")
