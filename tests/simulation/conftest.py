"""A small enclave that does what its arguments say, signed once per test run."""

import datetime as dt
import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.launcher import launch
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import sign_enclave

REPOSITORY = Path(__file__).parents[2]
TODAY = dt.date(2026, 11, 23)
PYPROJECT = """
[project]
name = "probe-project"
dependencies = ["cryptography"]
[project.optional-dependencies]
probe = []
bookwarehouse = ["grpcio", "protobuf", "sqlalchemy", "sqlcipher3", "dcap-qvl"]
missing = ["a-distribution-that-nobody-installs"]
too-new = ["cryptography>=9999"]
"""
CONFIG = {
    "name": "probe",
    "module": "services.probe",
    "extra": "probe",
    "productID": 9,
    "securityVersion": 4,
    "env": [
        {"name": "FIXED", "value": "measured"},
        {"name": "FROM_HOST", "fromHost": True},
        {"name": "WITH_DEFAULT", "value": "default", "fromHost": True},
        {"name": "ABSENT", "fromHost": True},
    ],
}


def make_project(library, folder, **changes):
    package = folder / "services" / "probe"
    package.mkdir(parents=True)
    (folder / "confidential_bookstore").symlink_to(library)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "services" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_bytes((Path(__file__).parent / "probe_enclave.py").read_bytes())
    (package / "enclave.json").write_text(json.dumps(CONFIG | changes))
    return package / "enclave.json"


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """A copy of the library, so that images stay the same while somebody edits it."""
    copy = tmp_path_factory.mktemp("library") / "confidential_bookstore"
    return shutil.copytree(REPOSITORY / copy.name, copy, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture(scope="session")
def new_project(library):
    """Makes a project with the probe as its only service; returns the path of its enclave.json."""
    return functools.partial(make_project, library)


@pytest.fixture(scope="session")
def platform():
    return SimulatedPlatform.create()


@pytest.fixture(scope="session")
def signing_key():
    return sigstruct.new_signing_key()


@pytest.fixture(scope="session")
def project(tmp_path_factory, new_project):
    folder = tmp_path_factory.mktemp("project")
    new_project(folder)
    return folder


@pytest.fixture(scope="session")
def config_path(project):
    return project / "services" / "probe" / "enclave.json"


@pytest.fixture(scope="session")
def enclave(config_path, project, signing_key, platform):
    """The signed probe."""
    return sign_enclave(config_path, project, signing_key, platform.root_pem, date=TODAY)


class Run:
    """How an enclave ended, and what it said."""

    def __init__(self, launched, code, stdout, stderr):
        self.identity = launched.identity
        self.code = code
        self.stdout = stdout
        self.stderr = stderr.decode()

    @property
    def said(self):
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


@pytest.fixture
def run(enclave, platform):
    """Launch the probe (or what is given instead of it), wait for its end, and return a `Run`."""
    started = []

    def launch_and_wait(*argv, image=None, signature=None, on=None, env=os.environ):
        launched = launch(
            image or enclave.image,
            signature or enclave.signature,
            on or platform,
            env=env,
            argv=argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(launched.process)
        stdout, stderr = launched.process.communicate(timeout=60)
        return Run(launched, launched.process.returncode, stdout, stderr)

    yield launch_and_wait
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
