"""Whatever is posted: an answer in the envelope, never a crash, never a change."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

import pytest
from api_users import api_user, manifest_of_users
from coordinators import Client, client_of, set_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_connection import closed_by_peer, connected
from structlog.testing import capture_logs

from coordinator.deployment.deployment import Deployment

GATES = {"Config": {"FeatureGates": ["SignQuoteEndpoint", "MonotonicCounter"]}}
PATHS = [
    prefix + path
    for prefix in ("/", "/api/v2/")
    for path in ("manifest", "secrets", "update", "update-manifest", "update-cancel", "recover")
] + ["/api/v2/sign-quote", "/api/v2/monotonic-counter"]
FIELDS = (
    "manifest",
    "secrets",
    "recoverySecret",
    "recoverySecretSignature",
    "sgxQuote",
    "Name",
    "VALUE",
    "Key",
    "Cert",
)
NAMES = st.sampled_from(FIELDS) | st.text(max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["e30=", "AAAA"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
BODIES = st.binary(max_size=200) | st.dictionaries(NAMES, JSON, max_size=4).map(
    lambda value: json.dumps(value).encode()
)


@contextlib.contextmanager
def serving(start: Any) -> Iterator[tuple[asyncio.Runner, Client]]:
    """A coordinator with users for tests that have no loop of their own."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()

        async def opened() -> Client:
            coordinator = await stack.enter_async_context(start())
            await set_manifest(coordinator, manifest_of_users(**GATES))
            return await stack.enter_async_context(client_of(coordinator, api_user("alice").tls()))

        client = runner.run(opened())
        try:
            yield runner, client
        finally:
            runner.run(stack.aclose())


async def visible(client: Client) -> list[Any]:
    """What anybody can see of the state."""
    paths = (
        "/api/v2/status",
        "/api/v2/manifest",
        "/api/v2/quote",
        "/update",
        "/update-manifest",
        "/api/v2/generations",
    )
    return [await client.raw("GET", path) for path in (*paths, "/secrets?s=note&s=uploaded&s=badge&s=shared")]


def test_any_body_on_any_endpoint(start):
    with capture_logs() as logs, serving(start) as (runner, client):
        before = runner.run(visible(client))

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.sampled_from(PATHS), BODIES)
        def post(path: str, body: bytes) -> None:
            status, kind, answer = runner.run(client.raw("POST", path, body))
            outcome = json.loads(answer)
            assert answer.endswith(b"}\n")
            assert outcome["data"] is None or "sgxQuote" in outcome["data"]
            assert outcome["message"]
            expected = {"fail": "application/json", "error": "text/plain; charset=utf-8"}
            assert kind == expected[outcome["status"]]
            assert status in {400, 401, 404, 410, 413, 500}

        post()
        assert runner.run(visible(client)) == before
    assert failures(logs) == []


def failures(logs: Iterable[MutableMapping[str, Any]]) -> list[Any]:
    """Requests that ended in an exception, which are logged with its traceback."""
    return [entry for entry in logs if entry["event"] == "request failed"]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Encoding: deflate\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello",
        b"Content-Encoding: zstd\r\nContent-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\n\r\n{",
        b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}",
        b"Content-Length: -1\r\n\r\n",
    ],
)
async def test_bodies_that_are_broken_on_the_way(client, head):
    """Whatever the answer is, it is the caller's mistake, and the next request is served."""
    tls = api_user("alice").tls()
    with capture_logs() as logs:
        async with connected(client.port, tls) as (reader, writer):
            writer.write(b"POST /api/v2/manifest HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head)
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                answer = await closed_by_peer(reader, 1)
                assert b" 500 " not in answer.partition(b"\r\n")[0], answer
        assert (await client.data("/api/v2/status"))["code"] == 3
    assert failures(logs) == []


async def test_a_failure_would_be_seen(client, monkeypatch):
    """What the tests above look for."""

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Deployment, "generation_report", broken)
    with capture_logs() as logs:
        assert (await client.raw("GET", "/api/v2/generations"))[0] == 500
    assert len(failures(logs)) == 1
