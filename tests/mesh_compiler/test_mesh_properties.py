"""Random policies and requests: a real Envoy with what was compiled says the same as `Policy.allow`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from mesh_world import World, call, speaks

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import Documents, HttpRule, Origin, Protocol, Target
from confidential_bookstore.policy.smi.path import normalised

sys.path.append(str(Path(__file__).parents[1] / "policy"))
import policy_strategies as random_policy

# Of each kind one, and a fifth that is called by requests, too.
_KINDS = (Protocol.HTTP, Protocol.TCP, Protocol.GRPC, Protocol.HTTP, Protocol.GRPC)
SERVICES = {
    service.key: replace(service, protocol=protocol, sealed=service.name == "bookstore-v2")
    for service, protocol in zip(random_policy.SERVICES.values(), _KINDS, strict=True)
}
BY_ACCOUNT = {service.account: service for service in SERVICES.values()}
POLICIES, QUESTIONS = 100, 12

_answers: list[bool] = []


@pytest.fixture(scope="module")
def strangers(envoy, tmp_path_factory):
    world = World(
        envoy,
        tmp_path_factory.mktemp("w"),
        services=SERVICES,
        callers=random_policy.ACCOUNTS,
        servers=random_policy.ACCOUNTS,
    )
    yield world
    world.close()


def sent(headers):
    """Each value with commas as several headers of one name."""
    return [(name, each) for name, value in headers.items() for each in value.split(",")]


def envoy_lets(world, question):
    """What a real caller sees."""
    service = BY_ACCOUNT[question.destination]
    if service.seen_as is Protocol.TCP:
        with world.connect(question.source, question.destination) as connection:
            return bool(speaks(connection))
    if service.protocol is Protocol.GRPC and question.path in random_policy.GRPC_PATHS and question.method == "POST":
        address = f"127.0.0.1:{world.outbound(question.source, question.destination)}"
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            code, details = call(channel, question.path, sent(question.headers))
        assert code is grpc.StatusCode.OK or (code, details) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "RBAC: access denied",
        )
        return code is grpc.StatusCode.OK
    status, body = world.ask(
        question.source, question.destination, question.path, question.method, sent(question.headers)
    )
    assert status != 403 or body == "RBAC: access denied"
    if service.protocol is Protocol.GRPC and "remote reset" in body:
        return True  # it got to the application, which does not take what is no gRPC
    assert status < 500, (question, status, body)
    if status == 400:  # before any rule is asked
        assert normalised(question.path) is None, (question, body)
    return status not in {400, 403}


def policy_lets(world, question):
    service = BY_ACCOUNT[question.destination]
    bytes_only = service.seen_as is Protocol.TCP
    return world.policy.allow(
        question.source,
        question.destination,
        service.port,
        None if bytes_only else question.method,
        question.path,
        question.headers,
    ).allowed


def whole(question):
    """A question that its destination can be asked: bytes know no method, and a request has one."""
    return question if question.method else replace(question, method="GET", path="/books")


questions = (random_policy.requests.map(whole)).filter(lambda each: each.source != each.destination)


def of_headers(*values):
    """Rules about one header that is sent several times."""
    buyer, store = random_policy.ACCOUNTS[0], random_policy.ACCOUNTS[3]
    rule = HttpRule("g", (Match("m", headers=(("client-app", Pattern("bookbuyer")),)),), Origin("a", 1, "a"))
    target = Target(f"{store.namespace}/a", store, (buyer,), (rule,), Origin("a", 1, "a"))
    asked = [random_policy.Request(buyer, store, 14001, "GET", "/books", {"client-app": each}) for each in values]
    return Documents(SERVICES, {target.name: target}), asked


@settings(
    max_examples=POLICIES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # each question takes a real Envoy: a smaller one is not looked for
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    random_policy.documents(permissive=st.sampled_from([False] * 7 + [True])),
    st.lists(questions, min_size=QUESTIONS, max_size=QUESTIONS),
)
@example(*of_headers("bookbuyer", "a,bookbuyer", "bookbuyer,a", "bookbuyer,bookbuyer", "", ","))
def test_envoy_answers_as_the_policy(strangers, documents, asked):
    strangers.put(replace(documents, services=SERVICES, splits={}))
    for question in asked:
        expected = policy_lets(strangers, question)
        assert envoy_lets(strangers, question) == expected, question
        _answers.append(expected)


def test_enough_was_asked():
    """Of both answers: a test that only ever sees refusals proves nothing."""
    if not _answers:
        pytest.skip("nothing was asked")
    assert len(_answers) >= 500
    assert sum(_answers) >= 50
    assert len(_answers) - sum(_answers) >= 50
