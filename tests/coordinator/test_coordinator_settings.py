from __future__ import annotations

import datetime as dt
import ipaddress
import json
from pathlib import Path

import pytest

import coordinator
from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.errors import ConfigurationError
from coordinator.settings import CoordinatorSettings

PCCS = {"CBS_PCCS_URL": "http://127.0.0.1:8081"}


def read(**environ: str) -> CoordinatorSettings:
    return CoordinatorSettings.from_environ(PCCS | environ)


def test_defaults_are_marbleruns():
    settings = read(EDG_COORDINATOR_PROMETHEUS_ADDR="", EDG_LOG_FORMAT="")
    assert settings.mesh_address == ("", 2001)
    assert settings.client_address == ("", 4433)
    assert settings.status_address is None
    assert settings.dns_names == ("localhost",)
    assert settings.seal_directory == Path.cwd() / "marblerun-coordinator-data"
    assert settings.leaf_lifetime == dt.timedelta(hours=24)
    assert settings.trust_domain == "marbles.internal"


def test_everything_can_be_set(tmp_path):
    settings = CoordinatorSettings.from_environ(
        {
            "EDG_COORDINATOR_MESH_ADDR": "[::1]:12001",
            "EDG_COORDINATOR_CLIENT_ADDR": "localhost:0",
            "EDG_COORDINATOR_PROMETHEUS_ADDR": ":9944",
            "EDG_COORDINATOR_DNS_NAMES": "localhost, coordinator.example ,10.0.0.7",
            "EDG_COORDINATOR_SEAL_DIR": str(tmp_path),
            "EDG_LOG_FORMAT": "json",
            "CBS_COLLATERAL_DIR": "/collateral",
            "CBS_LEAF_LIFETIME": "60",
            "CBS_TRUST_DOMAIN": "example.internal",
        }
    )
    assert settings == CoordinatorSettings(
        mesh_address=("::1", 12001),
        client_address=("localhost", 0),
        status_address=("", 9944),
        dns_names=("localhost", "coordinator.example"),
        ip_addresses=(ipaddress.IPv4Address("10.0.0.7"),),
        seal_directory=tmp_path,
        log_format="json",
        collateral_directory=Path("/collateral"),
        leaf_lifetime=dt.timedelta(minutes=1),
        trust_domain="example.internal",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EDG_COORDINATOR_MESH_ADDR", "2001"),
        ("EDG_COORDINATOR_MESH_ADDR", "host:"),
        ("EDG_COORDINATOR_MESH_ADDR", ":65536"),
        ("EDG_COORDINATOR_CLIENT_ADDR", "::1:4433"),
        ("EDG_COORDINATOR_PROMETHEUS_ADDR", "on"),
        ("EDG_COORDINATOR_DNS_NAMES", "local host"),
        ("CBS_LEAF_LIFETIME", "0"),
        ("CBS_LEAF_LIFETIME", "1d"),
        ("CBS_LEAF_LIFETIME", "99999999"),
        ("CBS_TRUST_DOMAIN", "Marbles.Internal"),
    ],
)
def test_what_is_wrong_is_named(variable, value):
    with pytest.raises(ConfigurationError) as wrong:
        read(**{variable: value})
    assert variable in wrong.value.message
    assert wrong.value.got.strip("'") in value
    assert wrong.value.expected


@pytest.mark.parametrize("environ", [{}, {"CBS_PCCS_URL": "http://x", "CBS_COLLATERAL_DIR": "/x"}])
def test_collateral_comes_from_exactly_one_place(environ):
    with pytest.raises(ConfigurationError, match="collateral must come from one place"):
        CoordinatorSettings.from_environ(environ)


def test_the_enclave_lets_in_what_is_read_and_nothing_that_decides_who_is_who():
    path = Path(coordinator.__file__).with_name("enclave.json")
    config = EnclaveConfig.parse(path.read_bytes())
    assert (config.product_id, config.security_version, config.debug) == (1, 1, False)
    given = {variable.name: variable.value or "" for variable in config.env}
    assert CoordinatorSettings.from_environ(given | PCCS) == read()
    assert {variable.name for variable in config.env if not variable.from_host} == {"CBS_TRUST_DOMAIN"}
    assert "CBS_TRUST_DOMAIN" in json.dumps(json.loads(path.read_text()))
