from __future__ import annotations

import datetime as dt
import ipaddress
import json
from pathlib import Path

import pytest

import coordinator
from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.errors import ConfigurationError
from coordinator.settings import CoordinatorSettings, SharedStateSettings

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
            "EDG_COORDINATOR_SEAL_DIR": "sealed",
            "EDG_CWD": str(tmp_path),
            "EDG_LOG_FORMAT": "json",
            "EDG_DEBUG_LOGGING": "1",
            "EDG_HTTP_ERROR_LOG_LEVEL": "warn",
            "EDG_STARTUP_MANIFEST": "/manifest.json",
            "EDG_DISTRIBUTED_COORDINATOR": "1",
            "EDG_STORE_BACKEND": "mysql+pymysql://coordinator:secret@db/state",
            "CBS_COORDINATOR_KEY_ADDR": ":15433",
            "CBS_COORDINATOR_PEERS": "one, two",
            "CBS_TOLERATE_UNKNOWN_KEYS": "1",
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
        seal_directory=tmp_path / "sealed",
        log_format="json",
        log_level="debug",
        tls_error_level="warning",
        startup_manifest=Path("/manifest.json"),
        tolerant=True,
        shared=SharedStateSettings(
            store="mysql+pymysql://coordinator:secret@db/state",
            key_address=("", 15433),
            peers=("one", "two"),
        ),
        collateral_directory=Path("/collateral"),
        leaf_lifetime=dt.timedelta(minutes=1),
        trust_domain="example.internal",
    )
    assert "secret" not in repr(settings)


def test_the_interoperability_mode_needs_no_collateral():
    settings = CoordinatorSettings.from_environ({"OE_SIMULATION": "1"})
    assert settings.interoperability
    assert not read().interoperability
    assert not read(OE_SIMULATION="0").interoperability


def test_developers_get_text_and_everything():
    settings = read(EDG_COORDINATOR_DEV_MODE="1", EDG_LOG_FORMAT="json")
    assert (settings.log_format, settings.log_level) == ("text", "debug")


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
        ("OE_SIMULATION", "yes"),
        ("EDG_LOG_FORMAT", "xml"),
        ("EDG_HTTP_ERROR_LOG_LEVEL", "loud"),
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
    fixed = {variable.name: variable.value for variable in config.env if not variable.from_host}
    assert fixed == {"CBS_TRUST_DOMAIN": "marbles.internal", "CBS_TOLERATE_UNKNOWN_KEYS": "0"}
    assert "OE_SIMULATION" not in given
    assert "CBS_TRUST_DOMAIN" in json.dumps(json.loads(path.read_text()))
