"""A small mesh in one real Envoy: all sidecars of a few services, and real applications behind them."""

from __future__ import annotations

import datetime as dt
import json
import queue
import random
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import (
    Account,
    Backend,
    Documents,
    HttpRule,
    MeshConfig,
    Origin,
    Protocol,
    Service,
    Split,
    Target,
    TcpRule,
)
from mesh.authority import MeshAuthority
from mesh.compiler import ARGUMENTS, Address, Layout, Placement, bootstrap, compile_sidecar, files, secrets
from mesh.compiler.bootstrap import version_statistics
from mesh.compiler.compile import Resources

ORIGIN = Origin("test.yaml", 1, "test")
NOW = dt.datetime.now(dt.UTC)
BUYER, THIEF, WATCHER = (Account(name, name) for name in ("bookbuyer", "bookthief", "watcher"))
SHOP, SHOP2 = Account("shop", "shop"), Account("shop-v2", "shop")
STORE, STORE2 = Account("bookstore", "bookstore"), Account("bookstore-v2", "bookstore")
TEXTS, TEXTS2 = Account("texts", "data"), Account("texts-v2", "data")
SEALED, SEALED2 = Account("sealed", "vault"), Account("sealed-v2", "vault")
CALLERS = (BUYER, THIEF, WATCHER)
SERVERS = (SHOP, SHOP2, STORE, STORE2, TEXTS, TEXTS2, SEALED, SEALED2)
BUY = "/bookstore.Bookstore/BuyBook"
LIST = "/bookstore.Bookstore/ListBooks"
PORT = {SHOP: 8080, SHOP2: 8080, STORE: 14001, STORE2: 14001, TEXTS: 3306, TEXTS2: 3306, SEALED: 2001, SEALED2: 2001}
_PROTOCOL = {8080: Protocol.HTTP, 14001: Protocol.GRPC, 3306: Protocol.TCP, 2001: Protocol.GRPC}


def _service(account):
    port = PORT.get(account, 9)
    protocol = _PROTOCOL.get(port, Protocol.TCP)
    return Service(account.name, account.namespace, account, port, protocol, sealed=port == 2001)


SERVICES = {service.key: service for service in map(_service, (*CALLERS, *SERVERS))}


def service_of(account):
    return SERVICES[f"{account.namespace}/{account.name}"]


def match(path=None, methods=(), **headers):
    written = tuple((name.replace("_", "-"), Pattern(text)) for name, text in headers.items())
    return Match("m", Pattern(path) if path is not None else None, frozenset(methods), written)


def http(*matches):
    return HttpRule("group", matches or (match(),), ORIGIN)


def tcp(*ports):
    return TcpRule("route", frozenset(ports), ORIGIN)


def target(name, destination, sources, *rules):
    return Target(f"{destination.namespace}/{name}", destination, tuple(sources), rules, ORIGIN)


def split(root, weights, *matches):
    backends = tuple(Backend(service_of(account).key, weight) for account, weight in weights.items())
    return Split("split", service_of(root).key, backends, matches, ORIGIN)


def documents(*targets, splits=(), permissive=False):
    return Documents(
        SERVICES,
        {each.name: each for each in targets},
        {each.root: each for each in splits},
        MeshConfig(permissive=permissive),
    )


def free_port(taken):
    """Below the ports that the kernel hands out itself."""
    while True:
        port = random.randrange(20_000, 32_000)
        if port not in taken:
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            taken.add(port)
            return port


class _HttpApplication(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write, so that no delayed acknowledgement makes it slow
    disable_nagle_algorithm = True
    name = ""

    def _answer(self):
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        time.sleep(float(self.headers.get("x-pause") or 0))
        body = json.dumps({"name": self.name, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, *args):
        pass


class _Echo(socketserver.BaseRequestHandler):
    name = b""

    def handle(self):
        if self.name.endswith(b"-v2"):  # speaks first, as MySQL does
            self.request.sendall(b"hello")
        while self.request.recv(1024):
            self.request.sendall(self.name)


class _EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class _GrpcApplication(grpc.GenericRpcHandler):
    def __init__(self, name):
        self._name = name

    def service(self, call):
        if call.method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self._name)

    def _watch(self, request, context):
        for _ in range(100):
            yield self._name
            time.sleep(0.02)


def _start_application(service, port, stack):
    name = service.name.encode()
    match service.seen_as:
        case Protocol.GRPC:
            server = grpc.server(ThreadPoolExecutor(8), handlers=(_GrpcApplication(name),))
            assert server.add_insecure_port(f"127.0.0.1:{port}")
            server.start()
            stack.callback(server.stop, None)
            return
        case Protocol.HTTP:
            handler = type("Handler", (_HttpApplication,), {"name": service.name})
            server = ThreadingHTTPServer(("127.0.0.1", port), handler)
            server.daemon_threads = True
        case Protocol.TCP:
            server = _EchoServer(("127.0.0.1", port), type("Handler", (_Echo,), {"name": name}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)


class UnixConnection(HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class EnvoyProcess:
    """One Envoy, its access log, and its admin interface."""

    def __init__(self, envoy, folder, config):
        self.folder = folder
        self.socket = folder / "a.sock"
        self.lines = queue.Queue()
        (folder / "bootstrap.json").write_text(json.dumps(config))
        self._errors = (folder / "envoy.log").open("wb")
        command = [envoy, "-c", str(folder / "bootstrap.json"), *ARGUMENTS, "-l", "warning"]
        self._process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=self._errors)
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + 20
        while True:
            try:
                if self.admin("/ready").strip() == "LIVE":
                    return
            except OSError:
                pass
            assert self._process.poll() is None, (folder / "envoy.log").read_text()
            assert time.monotonic() < deadline, (folder / "envoy.log").read_text()
            time.sleep(0.02)

    def _read(self):
        for line in self._process.stdout:
            self.lines.put(json.loads(line))

    def admin(self, path):
        connection = UnixConnection(str(self.socket))
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def texts(self):
        return {
            each["name"]: each["value"]
            for each in json.loads(self.admin("/stats?type=TextReadouts&format=json"))["stats"]
            if "name" in each
        }

    def line(self, **wanted):
        """The next line with these fields."""
        deadline = time.monotonic() + 15
        seen = []
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line with {wanted} in {seen}") from None
            if all(line.get(name) == value for name, value in wanted.items()):
                return line
            seen.append(line)

    def stop(self):
        self._process.terminate()
        self._process.wait(10)
        self._errors.close()
        self._process.stdout.close()


def without_sds_files(value):
    """As one process has all sidecars: secrets are its own, by name, and not in files of one sidecar."""
    if isinstance(value, list):
        return [without_sds_files(each) for each in value]
    if isinstance(value, dict):
        return {name: without_sds_files(each) for name, each in value.items() if name != "sds_config"}
    return value


class World:
    """All sidecars in one Envoy, over file xDS, as `put` says."""

    def __init__(self, envoy, folder, *, services=SERVICES, callers=CALLERS, servers=SERVERS):
        self.stack = ExitStack()
        self.folder = folder
        self._of = {service.account: service for service in services.values()}
        self.authority = MeshAuthority.create(NOW)
        self.issued = {account: self.authority.issue(account, NOW) for account in self._of}
        taken = set()
        ports = {account: free_port(taken) for account in servers}
        for account, port in ports.items():
            _start_application(self._of[account], port, self.stack)

        def place(account):
            called = [each for each in servers if each != account] if account in callers else []
            return Placement(
                self._of[account],
                Address("127.0.0.1", ports.get(account, 9)),
                Address("127.0.0.1", free_port(taken)) if account in servers else None,
                {self._of[each].key: Address("127.0.0.1", free_port(taken)) for each in called},
            )

        self.layout = Layout({service.key: place(account) for account, service in self._of.items()})
        self.version = 0
        self._before = {}
        self.put(Documents(services), wait=False)
        config = bootstrap("world", folder, folder / "a.sock")
        config["static_resources"] = {
            "secrets": [{name: value for name, value in each.items() if name != "@type"} for each in self.secrets()]
        }
        self.envoy = EnvoyProcess(envoy, folder, config)
        self.stack.callback(self.envoy.stop)

    def secrets(self):
        return [
            each
            for account, issued in self.issued.items()
            for each in secrets(self._of[account].key, issued.chain_pem, issued.key_pem, self.authority.root_pem)
        ]

    def compile(self, documents_):
        policy = Policy(documents_)
        sidecars = [compile_sidecar(policy, self.layout, key) for key in self.layout.services]
        return Resources(
            [each for sidecar in sidecars for each in sidecar.clusters],
            [each for sidecar in sidecars for each in sidecar.listeners],
            [each for sidecar in sidecars for each in sidecar.routes],
        )

    def put(self, documents_, *, wait=True):
        """Puts this policy in force; returns how many files changed."""
        self.policy = Policy(documents_)
        return self.put_resources(self.compile(documents_), wait=wait)

    def put_resources(self, resources, *, wait=True):
        self.version += 1
        statistics, changed = version_statistics(resources), {}
        for name, content in files(resources, f"{self.version}").items():
            if self._before.get(name) != content["resources"]:
                self._before[name] = content["resources"]
                changed[statistics[name]] = f"{self.version}"
                (self.folder / "tmp").write_text(json.dumps(without_sds_files(content)))
                (self.folder / "tmp").rename(self.folder / name)
        deadline = time.monotonic() + 5
        while wait and changed:
            has = self.envoy.texts()
            if all(has.get(name) == version for name, version in changed.items()):
                break
            assert time.monotonic() < deadline, (changed, (self.folder / "envoy.log").read_text()[-2000:])
            time.sleep(0.002)
        return len(changed)

    def close(self):
        self.stack.close()

    # What callers do

    def outbound(self, source, destination):
        return self.layout.services[self._of[source].key].outbound[self._of[destination].key].port

    def inbound(self, destination):
        return self.layout.services[self._of[destination].key].inbound.port

    def connection(self, source, destination):
        """HTTP through the caller's sidecar, on one connection."""
        return HTTPConnection("127.0.0.1", self.outbound(source, destination), timeout=5)

    def ask(self, source, destination, path="/", method="GET", headers=()):
        connection = self.connection(source, destination)
        try:
            return ask(connection, path, method, headers)
        finally:
            connection.close()

    def tls_context(self, account=None, *, alpn=("osm",), authority=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.authority.root_pem.decode())
        if account is not None:
            issued = (
                authority.issue(account, NOW)
                if authority
                else self.issued.get(account) or self.authority.issue(account, NOW)
            )
            file = self.folder / f"{account}.pem"
            file.write_bytes(issued.chain_pem + issued.key_pem.reveal())
            context.load_cert_chain(file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context

    def tls(self, account, destination, *, alpn=("osm",), name=None, authority=None):
        """A TLS connection right to a server's sidecar, round that of the caller."""
        plain = socket.create_connection(("127.0.0.1", self.inbound(destination)), timeout=5)
        context = self.tls_context(account, alpn=alpn, authority=authority)
        try:
            return context.wrap_socket(plain, server_hostname=name or self._of[destination].host)
        except OSError:
            plain.close()
            raise

    def answers_tls(self, account, destination, **how):
        """Whether a TLS connection right to a server's sidecar gets as far as one byte of answer."""
        try:
            with self.tls(account, destination, **how) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                return bool(connection.recv(1))
        except OSError:
            return False

    def connect(self, source, destination):
        """Bytes through the caller's sidecar."""
        return socket.create_connection(("127.0.0.1", self.outbound(source, destination)), timeout=5)

    def lets_connect(self, source, destination):
        with self.connect(source, destination) as connection:
            return speaks(connection)


def ask(connection, path="/", method="GET", headers=()):
    """Status and body; the path is sent as it is."""
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    if method in {"POST", "PUT", "PATCH"}:
        connection.putheader("content-length", "0")
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def speaks(connection):
    """Whether the application behind a connection of bytes answers; its name, or ""."""
    try:
        connection.sendall(b"x")
        return connection.recv(100).decode()
    except OSError:
        return ""


def call(channel, path, metadata=()):
    """Status of one gRPC call, and who answered or the details."""
    try:
        answer = channel.unary_unary(path)(b"", metadata=metadata, timeout=5)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, answer.decode()


def permissive(documents_):
    return replace(documents_, config=MeshConfig(permissive=True))
