"""Random policies and calls: a real server behind mutual TLS answers as `Policy.allow` does, and for the same rule."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import grpc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.server import MarbleServer
from confidential_bookstore.policy.access import AccessRules
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.marble_rules import access_rules
from confidential_bookstore.policy.smi.model import MeshConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "policy"))
from policy_strategies import GRPC_PATHS, SERVICES, documents, header_values

POLICIES, CALLS = 60, 10
DESTINATION = SERVICES["bookstore/bookstore"]
CALLERS = [service for service in SERVICES.values() if service != DESTINATION]


def every_path(_servicer, registration) -> None:
    """Registers all methods of the strategies, as generated code would."""

    async def yes(_request, _context):
        return b"yes"

    methods: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for path in GRPC_PATHS:
        _, service, method = path.split("/")
        methods.setdefault(service, {})[method] = grpc.unary_unary_rpc_method_handler(yes)
    for service, handlers in methods.items():
        registration.add_registered_method_handlers(service, handlers)


calls = st.lists(
    st.tuples(st.sampled_from(CALLERS), st.sampled_from(GRPC_PATHS), header_values), min_size=CALLS, max_size=CALLS
)


async def test_a_server_answers_as_the_policy_does(world):
    live = LiveIdentity(world.identity("bookstore"))
    server = MarbleServer(live, [(every_path, None)], address="127.0.0.1:0", rules=AccessRules(), status=world.status)
    port = await server.start()
    world.stack.push_async_callback(server.stop, 0)
    channels = {caller.marble: world.channel(port, world.identity(caller.marble)) for caller in CALLERS}
    cases: list[tuple] = []

    @settings(
        max_examples=POLICIES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(documents(), calls)
    def draw(policy, asked):
        cases.append((about_one(policy), asked))

    draw()
    answers = {True: 0, False: 0}
    for policy, asked in cases:
        oracle = Policy(without_permissive_mode(policy))
        server.set_rules(access_rules(policy)[DESTINATION.marble])
        for caller, path, headers in asked:
            wanted = inside(oracle, caller, path, headers)
            got = await call(channels[caller.marble], path, headers)
            assert got == (wanted.allowed, None if wanted.allowed else wanted.rule), (caller.key, path, headers)
            answers[wanted.allowed] += 1
    assert answers[True] > 50
    assert answers[False] > 50


def about_one(policy):
    """The same targets, all about the server that is asked."""
    targets = {
        target.name: replace(target, destination=DESTINATION.account, sources=sources)
        for target in policy.targets.values()
        if (sources := tuple(each for each in target.sources if each != DESTINATION.account))
    }
    return replace(policy, targets=targets)


def without_permissive_mode(policy):
    """Permissive mode is for sidecars only: inside a marble the policy is asked without it."""
    return replace(policy, config=MeshConfig())


def inside(oracle, caller, path, headers):
    return oracle.allow(caller.account, DESTINATION.account, DESTINATION.port, "POST", path, headers)


async def call(channel, path, headers) -> tuple[bool, str | None]:
    """Whether it was allowed, and otherwise by which rule it was not."""
    asked = channel.unary_unary(path)(b"", metadata=tuple(headers.items()))
    if await asked.code() is grpc.StatusCode.OK:
        return True, None
    assert await asked.code() is grpc.StatusCode.PERMISSION_DENIED
    return False, (await asked.details()).partition("(rule: ")[2].removesuffix(")")
