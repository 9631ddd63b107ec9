"""enclave.json: strict, and readable from inside an image only."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.enclave import (
    CoordinatorRequirement,
    EnclaveConfig,
    EnvironmentVariable,
    MeasuredConfig,
)
from confidential_bookstore.errors import ConfigurationError

MINIMAL = {
    "name": "bookstore",
    "module": "services.bookstore",
    "extra": "bookstore",
    "productID": 3,
    "securityVersion": 1,
}


def parse(**changes):
    return EnclaveConfig.parse(json.dumps(MINIMAL | changes))


def test_the_whole_file():
    config = parse(
        debug=True,
        env=[
            {"name": "A", "value": ""},
            {"name": "B", "fromHost": True},
            {"name": "C", "value": "default", "fromHost": True},
        ],
        coordinator={"productID": 1, "securityVersion": 2},
    )
    assert config == EnclaveConfig(
        name="bookstore",
        module="services.bookstore",
        extra="bookstore",
        product_id=3,
        security_version=1,
        debug=True,
        env=(
            EnvironmentVariable(name="A", value=""),
            EnvironmentVariable(name="B", from_host=True),
            EnvironmentVariable(name="C", value="default", from_host=True),
        ),
        coordinator=CoordinatorRequirement(product_id=1, security_version=2),
    )


def test_what_may_be_left_out():
    config = parse()
    assert (config.debug, config.env, config.coordinator) == (False, (), None)


@pytest.mark.parametrize("key", MINIMAL)
def test_what_may_not_be_left_out(key):
    with pytest.raises(ConfigurationError, match=key):
        EnclaveConfig.parse(json.dumps({name: value for name, value in MINIMAL.items() if name != key}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unknown": 1}, "unknown keys"),
        ({"name": "Book store"}, '"name" is malformed'),
        ({"name": "../up"}, '"name" is malformed'),
        ({"name": "bookstore\n"}, '"name" is malformed'),
        ({"module": "services/bookstore"}, '"module" is malformed'),
        ({"module": "services..bookstore"}, '"module" is malformed'),
        ({"productID": 65536}, "out of range"),
        ({"productID": -1}, "out of range"),
        ({"productID": True}, '"productID" has the wrong type'),
        ({"productID": 3.0}, '"productID" has the wrong type'),
        ({"securityVersion": "1"}, '"securityVersion" has the wrong type'),
        ({"debug": 0}, '"debug" has the wrong type'),
        ({"debug": None}, '"debug" has the wrong type'),
        ({"env": {}}, '"env" has the wrong type'),
        ({"env": ["A"]}, r"env\[0\] has the wrong type"),
        ({"env": [{"name": "A"}]}, r"env\[0\] has no value"),
        ({"env": [{"name": "A", "fromHost": False}]}, r"env\[0\] has no value"),
        ({"env": [{"name": "A", "value": 1}]}, '"value" has the wrong type'),
        ({"env": [{"name": "A", "value": "x\0y"}]}, "null character"),
        ({"env": [{"name": "A=B", "value": ""}]}, '"name" is malformed'),
        ({"env": [{"name": "A", "value": "", "more": 1}]}, "unknown keys"),
        ({"env": [{"name": "A", "value": ""}, {"name": "A", "fromHost": True}]}, "a second time"),
        ({"coordinator": {"productID": 1}}, "securityVersion"),
        ({"coordinator": {"productID": 1, "securityVersion": 1, "debug": True}}, "unknown keys"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        parse(**changes)


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", b"\xff", "[" * 100_000])
def test_what_is_no_object_is_an_error(text):
    with pytest.raises(ConfigurationError, match=r"services/x/enclave\.json"):
        EnclaveConfig.parse(text, "services/x/enclave.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.text() | st.binary())
def test_any_text_gives_a_config_or_a_configuration_error(text):
    with pytest.raises(ConfigurationError):
        EnclaveConfig.parse(text)


@given(st.dictionaries(st.sampled_from([*MINIMAL, "env", "coordinator", "debug"]), JSON))
def test_any_json_gives_a_config_or_a_configuration_error(changes):
    try:
        config = parse(**changes)
    except ConfigurationError:
        return
    assert 0 <= config.product_id <= 0xFFFF


def test_there_is_no_measured_config_outside_of_an_image():
    with pytest.raises(ConfigurationError, match="enclave image") as refused:
        MeasuredConfig.load()
    assert "cbs enclave run" in refused.value.hint
