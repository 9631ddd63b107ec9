"""The port table: no two things at one address, and with sidecars nobody is told where anybody really is."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi.reading import read_folder
from demo.addresses import require_free
from demo.mesh import POLICY
from demo.topology import ENCLAVES, PAGES, SERVICES, Topology, image_of, key_of
from mesh.compiler import read_layout

DIRECT = Topology("127.0.77", Path("/state"), {})
MESHED = dataclasses.replace(DIRECT, sidecars=True)


@pytest.mark.parametrize("topology", [DIRECT, MESHED])
@pytest.mark.parametrize("coordinator", [True, False])
def test_every_address_is_taken_once(topology, coordinator):
    taken = topology.listening(coordinator=coordinator)
    assert len(set(taken)) == len(taken)
    assert all(host.startswith("127.0.77.") for host, _ in taken)


def test_the_pages_have_the_ports_of_the_original_demo():
    assert PAGES == {
        "bookbuyer": 8080,
        "bookstore-v2": 8082,
        "bookthief": 8083,
        "bookstore": 8084,
        "bookwarehouse": 8085,
    }


def test_with_sidecars_a_service_is_told_only_addresses_of_its_own():
    for service in SERVICES:
        own = MESHED.environment(service)
        for variable in ("EDG_MARBLE_COORDINATOR_ADDR", "CBS_BOOKSTORE_ADDR", "CBS_BOOKWAREHOUSE_ADDR"):
            if variable in own:
                assert own[variable].startswith(f"{MESHED.host(service)}:16"), (service, variable)
        assert own["CBS_LISTEN_ADDR"] == f"{MESHED.host(service)}:14001"
    assert DIRECT.environment("bookbuyer")["CBS_BOOKSTORE_V2_ADDR"] == "127.0.77.15:14001"
    assert MESHED.environment("bookbuyer")["CBS_BOOKSTORE_V2_ADDR"] == "127.0.77.13:16015"


@pytest.mark.parametrize("coordinator", [True, False])
def test_the_layout_is_one_that_the_mesh_takes(coordinator):
    import json

    services = read_folder(POLICY).services
    layout = read_layout(json.dumps(MESHED.layout(coordinator=coordinator)), services)
    assert len(layout.services) == len(SERVICES) + coordinator
    taken = set(MESHED.listening(coordinator=coordinator))
    for key, placement in layout.services.items():
        for address in (placement.application, placement.inbound, *placement.outbound.values()):
            assert (address.host, address.port) in taken, key
    buyer = layout.services[key_of("bookbuyer")]
    assert str(buyer.outbound[key_of("bookstore-v2")]) == MESHED.seen_from("bookbuyer", "bookstore-v2")
    assert (key_of("coordinator") in buyer.outbound) is coordinator


def test_every_service_has_an_image():
    assert {image_of(service) for service in SERVICES} | {"coordinator"} == set(ENCLAVES)


def test_an_address_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{address[1]}") as refused:
            require_free([address])
    assert "--network" in refused.value.hint
    require_free([address])
