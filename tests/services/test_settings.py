"""Settings and enclave.json: what enters an enclave is what it asks for, and keys never come from the host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bookstore_world import KEY

from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.errors import ConfigurationError
from services.bookbuyer.settings import BuyerSettings
from services.bookstore.settings import StoreSettings
from services.bookthief.settings import ThiefSettings
from services.bookwarehouse.settings import WarehouseSettings

SERVICES = Path(__file__).parents[2] / "services"
NAMES = {"bookwarehouse": 2, "bookstore": 3, "bookbuyer": 4, "bookthief": 5}
FROM_MANIFEST = {"CBS_STORE_KEY", "CBS_JOURNAL_KEY", "CBS_SELLER", "MARBLE_ACCESS_RULES"}


def config(name: str) -> EnclaveConfig:
    return EnclaveConfig.parse((SERVICES / name / "enclave.json").read_bytes())


@pytest.mark.parametrize(("name", "product_id"), NAMES.items())
def test_enclaves_are_named_numbered_and_not_debuggable(name, product_id):
    found = config(name)
    assert (found.name, found.module, found.extra) == (name, f"services.{name}", name)
    assert (found.product_id, found.security_version, found.debug) == (product_id, 1, False)
    assert (found.coordinator.product_id, found.coordinator.security_version) == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_service_reads_enters_its_enclave_or_comes_from_the_manifest(name):
    source = "".join(path.read_text() for path in (SERVICES / name).glob("settings.py"))
    read = set(re.findall(r'"(CBS_[A-Z_]+)"', source))
    enters = {variable.name for variable in config(name).env}
    assert read - FROM_MANIFEST <= enters
    assert enters & FROM_MANIFEST == set()  # the host cannot choose these
    readme = (SERVICES / name / "README.md").read_text()
    assert {variable for variable in read if f"`{variable}`" not in readme} == set()


def test_defaults(tmp_path):
    common = {"CBS_DATA_DIR": str(tmp_path), "CBS_STORE_KEY": KEY.hex(), "CBS_JOURNAL_KEY": KEY.hex()}
    warehouse = WarehouseSettings.from_environ(common)
    assert (warehouse.store_path, warehouse.initial_stock) == (tmp_path / "books.db", 1000)
    store = StoreSettings.from_environ({"CBS_SELLER": "bookstore-v1"})
    assert (store.warehouse_address, store.restock_copies) == ("localhost:14001", 1000)
    buyer = BuyerSettings.from_environ(common)
    assert (buyer.interval, buyer.concurrency) == (1.0, 1)
    thief = ThiefSettings.from_environ(common)
    assert (thief.interval, thief.diary_path) == (1.0, tmp_path / "thefts.jsonl")
    assert KEY.hex() not in repr([warehouse, buyer])


@pytest.mark.parametrize(
    ("kind", "variables", "named"),
    [
        (WarehouseSettings, {"CBS_STORE_KEY": ""}, "CBS_STORE_KEY"),
        (WarehouseSettings, {"CBS_STORE_KEY": "00"}, "CBS_STORE_KEY"),
        (WarehouseSettings, {"CBS_INITIAL_STOCK": "-1"}, "CBS_INITIAL_STOCK"),
        (WarehouseSettings, {"CBS_DATA_DIR": "/nowhere"}, "CBS_DATA_DIR"),
        (StoreSettings, {"CBS_SELLER": ""}, "CBS_SELLER"),
        (StoreSettings, {"CBS_SELLER": "my store"}, "CBS_SELLER"),
        (StoreSettings, {"CBS_RESTOCK_COPIES": "1000001"}, "CBS_RESTOCK_COPIES"),
        (StoreSettings, {"CBS_BOOKWAREHOUSE_ADDR": "warehouse"}, "CBS_BOOKWAREHOUSE_ADDR"),
        (BuyerSettings, {"CBS_JOURNAL_KEY": "x"}, "CBS_JOURNAL_KEY"),
        (BuyerSettings, {"CBS_BUY_INTERVAL": "-1"}, "CBS_BUY_INTERVAL"),
        (BuyerSettings, {"CBS_BUY_CONCURRENCY": "0"}, "CBS_BUY_CONCURRENCY"),
        (ThiefSettings, {"CBS_STEAL_INTERVAL": "soon"}, "CBS_STEAL_INTERVAL"),
        (ThiefSettings, {"EDG_MARBLE_COORDINATOR_ADDR": "x"}, "EDG_MARBLE_COORDINATOR_ADDR"),
    ],
)
def test_errors_name_the_variable(tmp_path, kind, variables, named):
    right = {
        "CBS_DATA_DIR": str(tmp_path),
        "CBS_STORE_KEY": KEY.hex(),
        "CBS_JOURNAL_KEY": KEY.hex(),
        "CBS_SELLER": "bookstore-v1",
    }
    with pytest.raises(ConfigurationError, match=named):
        kind.from_environ(right | variables)
