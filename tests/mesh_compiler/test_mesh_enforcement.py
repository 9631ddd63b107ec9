"""What the compiled configuration does in a real Envoy: who gets in, who does not, and what both are told."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
import time

import grpc
import pytest
from mesh_world import (
    BUY,
    BUYER,
    LIST,
    NOW,
    SEALED,
    SHOP,
    STORE,
    TEXTS,
    TEXTS2,
    THIEF,
    WATCHER,
    ask,
    call,
    documents,
    http,
    match,
    permissive,
    service_of,
    speaks,
    target,
    tcp,
)

from confidential_bookstore.policy.smi.decision import Policy
from mesh.authority import MeshAuthority
from mesh.compiler import compile_sidecar, validation_config

HTTP_BUY = r"/buy/.*"
BUYERS = (
    target("buyers", SHOP, [BUYER], http(match(HTTP_BUY, ["GET"]))),
    target("callers", STORE, [BUYER], http(match(r"/bookstore\.Bookstore/BuyBook", ["POST"]))),
    target("readers", TEXTS, [BUYER], tcp(3306)),
    target("vault", SEALED, [BUYER], tcp()),
)
NORMAL = documents(*BUYERS)


def got(connection):
    try:
        return connection.recv(1)
    except (ConnectionError, TimeoutError):
        return b""


def channel(world, source, destination):
    return grpc.insecure_channel(f"127.0.0.1:{world.outbound(source, destination)}")


def with_thief(*, connections=True):
    destinations = (SHOP, STORE, TEXTS) if connections else (SHOP, STORE)
    more = [target("thieves", each, [THIEF], tcp() if each is TEXTS else http()) for each in destinations]
    return documents(*BUYERS, *more)


@pytest.fixture(autouse=True)
def normal(world):
    world.put(NORMAL)


def test_envoy_finds_everything_valid(world, envoy, tmp_path):
    sidecars = [compile_sidecar(Policy(with_thief()), world.layout, key) for key in world.layout.services]
    file = tmp_path / "all.json"
    file.write_text(json.dumps(validation_config(sidecars, world.secrets())))
    done = subprocess.run(
        [envoy, "--mode", "validate", "-c", file, "-l", "warning"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "eprecated" not in done.stderr


def test_requests(world):
    assert world.ask(BUYER, SHOP, "/buy/a") == (200, '{"name": "shop", "path": "/buy/a"}')
    assert world.ask(BUYER, SHOP, "/buy/a", "POST") == (403, "RBAC: access denied")
    assert world.ask(BUYER, SHOP, "/unknown") == (403, "RBAC: access denied")
    assert world.ask(THIEF, SHOP, "/buy/a") == (403, "RBAC: access denied")


def test_calls(world):
    with channel(world, BUYER, STORE) as buyer, channel(world, THIEF, STORE) as thief:
        assert call(buyer, BUY) == (grpc.StatusCode.OK, "bookstore")
        assert call(buyer, LIST) == (grpc.StatusCode.PERMISSION_DENIED, "RBAC: access denied")
        assert call(thief, BUY) == (grpc.StatusCode.PERMISSION_DENIED, "RBAC: access denied")


def test_connections(world):
    assert world.lets_connect(BUYER, TEXTS) == "texts"
    assert not world.lets_connect(THIEF, TEXTS)


def test_sealed_bytes(world):
    """Attested TLS goes through as it is; that it is gRPC, no sidecar knows."""
    assert world.lets_connect(THIEF, SEALED) == ""
    assert world.lets_connect(BUYER, SEALED) == "sealed"


@pytest.mark.parametrize("destination", [SHOP, TEXTS], ids=str)
def test_mutual_tls_is_required(world, destination):
    hello = {"alpn": ("osm/bookbuyer.bookbuyer", "osm")}
    assert world.answers_tls(BUYER, destination, **hello)
    assert not world.answers_tls(None, destination, **hello)
    assert not world.answers_tls(BUYER, destination, authority=MeshAuthority.create(NOW), **hello)
    with socket.create_connection(("127.0.0.1", world.inbound(destination)), timeout=5) as plain:
        plain.sendall(b"GET /buy/a HTTP/1.1\r\nhost: a\r\n\r\n")
        assert not got(plain)


@pytest.mark.parametrize(
    "hello", [{"name": "elsewhere.svc.cluster.local"}, {"alpn": ()}, {"alpn": ("h2",)}, {"alpn": ("osm/nobody",)}]
)
def test_wrong_name_or_alpn(world, hello):
    for destination in (SHOP, TEXTS):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            world.tls(BUYER, destination, **hello)


def test_alpn_is_no_proof(world):
    """A thief that takes the buyer's door still is the thief."""
    assert not world.answers_tls(THIEF, TEXTS, alpn=("osm/bookbuyer.bookbuyer",))
    while THIEF.principal not in (world.envoy.line(kind="l4", peer=THIEF.principal)["tls_failure"] or ""):
        pass


def test_what_a_server_says_first_is_for_those_who_are_let_in(world):
    """As a database does: its greeting goes to nobody else, even before the caller has said anything."""
    world.put(documents(target("a", TEXTS2, [BUYER], tcp())))
    with world.connect(BUYER, TEXTS2) as buyer:
        assert buyer.recv(5) == b"hello"
    with world.connect(THIEF, TEXTS2) as thief:
        thief.settimeout(0.5)
        assert not got(thief)
    with world.tls(THIEF, TEXTS2, alpn=("osm",)) as thief:
        thief.settimeout(0.5)
        assert not got(thief)
    assert not world.answers_tls(THIEF, TEXTS2, alpn=("osm/bookbuyer.bookbuyer",))


def test_permissive_mode_and_back(world):
    """Nobody who is granted notices anything when it ends; the others are out at once."""
    world.put(permissive(NORMAL))
    assert world.ask(THIEF, SHOP, "/anything", "POST")[0] == 200
    with world.connect(BUYER, TEXTS) as buyer, world.connect(THIEF, TEXTS) as thief:
        assert speaks(buyer) == speaks(thief) == "texts"
        world.put(NORMAL)
        assert not got(thief)
        assert speaks(buyer) == "texts"
    assert world.ask(THIEF, SHOP, "/anything", "POST")[0] == 403
    assert not world.lets_connect(THIEF, TEXTS)


def test_permissive_mode_is_for_the_mesh_only(world):
    world.put(permissive(NORMAL))
    for destination in (SHOP, TEXTS):
        assert world.answers_tls(THIEF, destination)
        assert not world.answers_tls(None, destination)
        assert not world.answers_tls(THIEF, destination, authority=MeshAuthority.create(NOW))


class Steady(threading.Thread):
    """Goes on asking until it is told to stop."""

    def __init__(self, once):
        super().__init__(daemon=True)
        self._once = once
        self._stopped = threading.Event()
        self.failed = []
        self.times = 0

    def run(self):
        while not self._stopped.is_set():
            answer = self._once()
            self.times += 1
            if answer is not True:
                self.failed.append(answer)

    def stop(self):
        self._stopped.set()
        self.join(10)


def test_revocation_of_requests(world):
    """On the same open TLS connection, within a second, while the buyer's calls go on."""
    world.put(with_thief())
    with channel(world, BUYER, STORE) as buyer, channel(world, THIEF, STORE) as thief:
        steady = Steady(lambda: call(buyer, BUY)[0] is grpc.StatusCode.OK)
        steady.start()
        assert call(thief, BUY)[0] is grpc.StatusCode.OK
        with world.tls(THIEF, SHOP) as kept:
            kept.sendall(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b" 200 " in kept.recv(4096)
            start = time.monotonic()
            world.put(NORMAL, wait=False)
            while call(thief, BUY)[0] is grpc.StatusCode.OK:
                assert time.monotonic() - start < 1
            assert call(thief, BUY) == (grpc.StatusCode.PERMISSION_DENIED, "RBAC: access denied")
            time.sleep(max(0, start + 0.5 - time.monotonic()))
            kept.sendall(b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b" 403 " in kept.recv(4096)
        steady.stop()
        assert not steady.failed
        assert steady.times > 50


def test_revocation_of_connections(world):
    """The thief's open connection ends within a second; the buyer's stays, and so do requests elsewhere."""
    world.put(with_thief())
    kept = world.connection(BUYER, SHOP)
    with world.connect(BUYER, TEXTS) as buyer, world.connect(THIEF, TEXTS) as thief:
        assert speaks(buyer) == speaks(thief) == "texts"
        steady = Steady(lambda: speaks(buyer) == "texts" and ask(kept, "/buy/a")[0] == 200)
        steady.start()
        start = time.monotonic()
        world.put(with_thief(connections=False), wait=False)
        assert not got(thief)
        assert time.monotonic() - start < 1
        assert not world.lets_connect(THIEF, TEXTS)
        time.sleep(0.3)
        steady.stop()
        assert not steady.failed
        assert steady.times > 50
    kept.close()


def test_granting_disturbs_nobody(world):
    with world.connect(BUYER, TEXTS) as buyer:
        assert speaks(buyer) == "texts"
        world.put(with_thief())
        assert world.lets_connect(THIEF, TEXTS) == "texts"
        other = target("others", TEXTS, [BUYER, WATCHER], tcp())  # the buyer by another target, too
        world.put(documents(other))
        assert speaks(buyer) == "texts"


def test_ports_are_the_service_s(world):
    world.put(documents(target("a", TEXTS, [BUYER], tcp(3307, world.inbound(TEXTS)))))
    assert not world.lets_connect(BUYER, TEXTS)
    world.put(documents(target("a", TEXTS, [BUYER], tcp(3307, 3306))))
    assert world.lets_connect(BUYER, TEXTS)


def test_overlapping_targets_add_up(world):
    wide = target("wide", SHOP, [BUYER], http(match("/osm.*")))
    narrow = target("narrow", SHOP, [WATCHER], http(match("/osm", ["GET"])))
    world.put(documents(wide, narrow))
    assert world.ask(WATCHER, SHOP, "/osm")[0] == 200
    assert world.ask(WATCHER, SHOP, "/osm/x")[0] == 403
    assert world.ask(BUYER, SHOP, "/osm/x", "PUT")[0] == 200


def test_no_deadline_but_the_caller_s(world):
    """Route timeout 15 s and idle timeout are Envoy's; a silent call must outlive none of ours."""
    dump = json.loads(world.envoy.admin("/config_dump"))
    text = json.dumps(dump)
    assert '"timeout": "15s"' not in text
    routes = [
        each
        for each in _values(dump, "route")
        if isinstance(each, dict) and ("cluster" in each or "weighted_clusters" in each)
    ]
    assert routes
    assert {each["timeout"] for each in routes} == {"0s"}
    managers = [each for each in _objects(dump) if str(each.get("@type", "")).endswith("HttpConnectionManager")]
    proxies = [each for each in _objects(dump) if str(each.get("@type", "")).endswith("TcpProxy")]
    assert managers
    assert proxies
    assert {each["stream_idle_timeout"] for each in managers} == {"0s"}
    # The last chain of a service of bytes lets nobody in, and waits for nobody.
    assert {(each["idle_timeout"], each.get("upstream_connect_mode") == "ON_DOWNSTREAM_DATA") for each in proxies} == {
        ("0s", False),
        ("5s", True),
    }
    assert (
        world.ask(BUYER, SHOP, "/buy/a", headers=[("x-pause", "1.5"), ("x-envoy-upstream-rq-timeout-ms", "100")])[0]
        == 200
    )


def _objects(value):
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)


def _values(value, name):
    return [each[name] for each in _objects(value) if name in each]


def test_streams(world):
    world.put(documents(target("w", STORE, [BUYER], http())))
    with channel(world, BUYER, STORE) as buyer:
        answers = buyer.unary_stream("/bookstore.Bookstore/Watch")(b"", timeout=10)
        assert list(answers) == [b"bookstore"] * 100


def test_access_log(world):
    assert world.ask(THIEF, SHOP, "/buy/a?secret=1")[0] == 403
    line = world.envoy.line(kind="l7", peer=THIEF.principal, path="/buy/a")
    assert line["destination"] == "shop/shop"
    assert line["method"] == "GET"
    assert line["code"] == 403
    assert line["details"] == "rbac_access_denied_matched_policy[none]"
    assert line["requested_server_name"] == service_of(SHOP).host
    assert line["time"]
    assert "secret" not in str(line)
    with channel(world, THIEF, STORE) as thief:
        call(thief, BUY)
    line = world.envoy.line(kind="l7", peer=THIEF.principal, path=BUY)
    assert (line["grpc_status"], line["destination"]) == ("PERMISSION_DENIED", "bookstore/bookstore")
    world.lets_connect(THIEF, TEXTS)
    line = world.envoy.line(kind="l4", peer=THIEF.principal)
    assert (line["destination"], line["type"]) == ("data/texts", "TcpConnectionEnd")
    assert line["details"] == "rbac_access_denied_matched_policy[none]"
    assert world.ask(BUYER, SHOP, "/buy/%20")[0] == 403
    assert world.envoy.line(kind="l7")["details"] == "rbac_access_denied_matched_policy[malformed-path]"


def test_connections_are_logged_when_they_are_let_in(world):
    with world.connect(BUYER, TEXTS) as buyer:
        assert speaks(buyer)
        line = world.envoy.line(kind="l4", peer=BUYER.principal, type="TcpUpstreamConnected")
        assert not line["details"]
    line = world.envoy.line(kind="l4", peer=BUYER.principal, type="TcpConnectionEnd")
    assert "rbac" not in (line["details"] or "")


def test_the_server_has_to_be_the_right_account(world):
    """Another service at the address, with a genuine certificate of the mesh, gets nothing."""
    resources = world.compile(documents(target("a", SHOP, [BUYER], http()), target("b", TEXTS, [BUYER], tcp())))
    text = json.dumps(resources.clusters).replace(SHOP.principal, WATCHER.principal)
    resources.clusters[:] = json.loads(text)
    world.put_resources(resources)
    assert world.ask(BUYER, SHOP, "/")[0] == 503
    world.put(documents(target("a", SHOP, [BUYER], http())))
    assert world.ask(BUYER, SHOP, "/")[0] == 200
