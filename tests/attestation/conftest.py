"""Real quotes with Intel's collateral, and what must come of them: tests/vectors/README.md."""

import dataclasses
import functools
import json
from pathlib import Path

import dcap_qvl
import pytest

VECTORS = Path(__file__).parents[1] / "vectors"
INDEX = json.loads((VECTORS / "index.json").read_text())
NAMES = [entry["name"] for entry in INDEX if entry["result"] != "parse-only"]
ACCEPTED = [entry["name"] for entry in INDEX if entry["result"] == "accept"]


@dataclasses.dataclass(frozen=True)
class Vector:
    name: str
    raw: bytes
    expected: dict

    @functools.cached_property
    def collateral(self):
        return dcap_qvl.QuoteCollateralV3.from_json(self.collateral_file.read_text())

    @property
    def collateral_file(self):
        return VECTORS / self.name / "collateral.json"

    @property
    def now(self):
        return self.expected["now"]

    @property
    def report_data(self):
        return bytes.fromhex(self.expected["report_data"])


@functools.cache
def read_vector(name):
    folder = VECTORS / name
    return Vector(name, (folder / "quote.bin").read_bytes(), json.loads((folder / "expected.json").read_text()))


@pytest.fixture(scope="session")
def vector_named():
    """A vector by its name."""
    return read_vector


@pytest.fixture(scope="session", params=[entry["name"] for entry in INDEX])
def any_vector(request):
    return read_vector(request.param)


@pytest.fixture(scope="session", params=NAMES)
def vector(request):
    """Each vector that has a verdict."""
    return read_vector(request.param)


@pytest.fixture(scope="session", params=ACCEPTED)
def accepted(request):
    """Each vector that is accepted."""
    return read_vector(request.param)


@pytest.fixture(scope="session")
def sgx():
    return read_vector("sgx-v3-00606a000000-c81a90ee")


@pytest.fixture(scope="session")
def tdx():
    return read_vector("tdx-v5-b0c06f000000-fd88575b")
