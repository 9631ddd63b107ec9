"""Paths: our normalisation against a real Envoy's, over HTTP/1 and HTTP/2."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from policy_strategies import PLAIN_PATHS, paths

from confidential_bookstore.policy.smi.path import SPEAKABLE, normalised

ENVOY = "type.googleapis.com/envoy.extensions.filters"
NOT_SPEAKABLE = {"not_rule": {"url_path": {"path": {"safe_regex": {"regex": SPEAKABLE}}}}}
CONNECTION_MANAGER = {
    "@type": f"{ENVOY}.network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "path",
    "codec_type": "AUTO",
    "normalize_path": True,
    "merge_slashes": True,
    "path_with_escaped_slashes_action": "REJECT_REQUEST",
    "delayed_close_timeout": "0s",
    "http_filters": [
        {
            "name": "malformed",
            "typed_config": {
                "@type": f"{ENVOY}.http.rbac.v3.RBAC",
                "rules": {
                    "action": "DENY",
                    "policies": {"malformed": {"permissions": [NOT_SPEAKABLE], "principals": [{"any": True}]}},
                },
            },
        },
        {"name": "router", "typed_config": {"@type": f"{ENVOY}.http.router.v3.Router"}},
    ],
    "route_config": {
        "name": "all",
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [
                    {
                        "match": {"safe_regex": {"regex": "(?s).*"}},
                        "direct_response": {"status": 200},
                        "response_headers_to_add": [{"header": {"key": "x-path", "value": "%REQ(:PATH)%"}}],
                    }
                ],
            }
        ],
    },
}


class EnvoyPaths:
    """A real Envoy that answers with the path it has come to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def over_http1(self, target: str, method: str = "GET") -> str | None:
        """The path, without query; None if Envoy refuses."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            request = f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = b""
            while b"\r\n\r\n" not in answer and (chunk := connection.recv(65536)):
                answer += chunk
        lines = answer.decode().split("\r\n")
        assert lines[0].split()[1] in ("200", "400", "403", "404"), answer
        found = [line[len("x-path: ") :] for line in lines if line.startswith("x-path: ")]
        return found[0].partition("?")[0] if found else None

    def over_http2(self, target: str) -> str | None:
        """The same for a gRPC client."""
        call = self.channel.unary_unary(target).future(b"", timeout=10)
        call.exception()
        metadata = (*call.initial_metadata(), *call.trailing_metadata())
        return next((value.partition("?")[0] for name, value in metadata if name == "x-path"), None)


@pytest.fixture(scope="module")
def real(envoy, tmp_path_factory) -> Iterator[EnvoyPaths]:
    folder = tmp_path_factory.mktemp("envoy")
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    filters = [{"name": "http", "typed_config": CONNECTION_MANAGER}]
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {"name": "path", "address": address, "filter_chains": [{"filters": filters}]}
    (folder / "envoy.json").write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    command = [
        envoy,
        "-c",
        folder / "envoy.json",
        "--concurrency",
        "1",
        "-l",
        "error",
        "--use-dynamic-base-id",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    try:
        for _ in range(200):
            assert process.poll() is None, (folder / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        found = EnvoyPaths(port)
        yield found
        found.channel.close()
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/../b", "/b"),
        ("/a/..;x/b", "/b"),
        ("/a/%2e%2e;x/b", "/a/..;x/b"),
        ("/a/..;x\\b", "/"),
        ("/a\\..;\\b", "/a/..;/b"),
        ("/a/..;p=%00/c", "/c"),
        ("/a//../b", "/a/b"),
        ("/a/b/..", "/a/"),
        ("//", "//"),
        ("/..//", "//"),
        ("/a//?x//y", "/a/"),
        ("/%41%7E", "/A~"),
        ("/%2541", None),
        ("/a%zz/../c", "/c"),
        ("/%00/../b", None),
        ("/a%2fb/../c", None),
        ("/a?%2f", "/a"),
        ("/a#b", None),
        ("/a|b", None),
        ("/a|b/..", "/"),
        ("/[x]", None),
        ("*", None),
        ("", None),
        ("a", None),
        ("\\a", None),
        ("/a b", None),
        ("/a\n", None),
    ],
)
def test_normalised(path, expected):
    assert normalised(path) == expected


@given(path=paths)
def test_normalised_paths_stay_as_they_are(path):
    once = normalised(path)
    assert once is None or once == "//" or normalised(once) == once


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("/a/..;%2f/b")
@example("/a/..;\\../b")
@example("/a/..;p=%00/c")
@example("//")
@example("/.//?x")
@example("/[/b")
@given(path=paths)
def test_same_as_envoy(real, path):
    expected = normalised(path)
    assert real.over_http1(path) == expected
    if path.startswith("/"):
        assert real.over_http2(path) == expected


def test_every_single_character_and_escape_as_in_envoy(real):
    for code in range(256):
        for path in (f"/a%{code:02x}b", f"/a%{code:02X}/../b", f"/a/.%{code:02x}/b"):
            assert real.over_http1(path) == normalised(path), path
    for code in range(0x21, 0x7F):
        for path in (f"/a{chr(code)}b", f"/a/..{chr(code)}b/c", f"/a/.{chr(code)}/b"):
            assert real.over_http1(path) == normalised(path), path
            assert real.over_http2(path) == normalised(path), path
    for code in (0, 1, 9, 0x1F, 0x7F):
        assert real.over_http1(f"/a{chr(code)}b/../c") is None
        assert normalised(f"/a{chr(code)}b/../c") is None


def test_what_is_not_ascii_is_escaped_in_http2_and_refused_in_http1(real):
    assert normalised("/é") is None
    assert real.over_http2("/é") is None
    assert real.over_http2("/é/../b") == normalised("/é/../b") == "/b"
    assert real.over_http1("/é/../b") is None


def test_other_forms_of_a_target(real):
    assert real.over_http1("http://host/a/../b") == "/b"
    assert real.over_http1("*", "OPTIONS") is None
    assert real.over_http1("/a", "CONNECT") is None
    assert real.over_http1("host:80", "CONNECT") is None
    assert all(real.over_http1(path) == path for path in PLAIN_PATHS)
