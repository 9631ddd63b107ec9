"""One of each platform, each over the same simulated machine: the devices are fakes that behave like the kernel's."""

import dataclasses
import errno
import socket
import threading
from pathlib import Path

import pytest

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.attestation.platforms.device_files import DeviceFiles
from confidential_bookstore.attestation.platforms.gramine import GraminePlatform
from confidential_bookstore.attestation.platforms.simulated import SimulatedCpu
from confidential_bookstore.attestation.platforms.tdx import TdxPlatform
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.launcher import serve
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.quoting import sgx_report

ENCLAVE = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=1)
DOMAIN = TdIdentity(mr_td=b"t" * 48)


class GramineDevice(DeviceFiles):
    """/dev/attestation: `report` and `quote` are made anew from `user_report_data` at every read.

    The report is the CPU's, for the target in `target_info`; the quote is what the host hands in.
    """

    def __init__(self, machine, directory):
        self.machine = machine
        self.directory = directory
        self.quoted = ENCLAVE
        (directory / "keys").mkdir(parents=True)
        (directory / "attestation_type").write_bytes(b"dcap")
        (directory / "user_report_data").write_bytes(b"")
        (directory / "my_target_info").write_bytes(b"i" * 512)
        (directory / "target_info").write_bytes(b"")
        (directory / "report").write_bytes(b"")
        (directory / "quote").write_bytes(b"")
        (directory / "keys" / "_sgx_mrenclave").write_bytes(b"E" * 16)
        (directory / "keys" / "_sgx_mrsigner").write_bytes(b"S" * 16)

    def read(self, path):
        report_data = (self.directory / "user_report_data").read_bytes()
        if path == self.directory / "report":
            if len((self.directory / "target_info").read_bytes()) != 512:
                raise OSError(errno.EINVAL, "Invalid argument")
            body = sgx_report(ENCLAVE, report_data, cpu_svn=self.machine.machine.cpu_svn)
            path.write_bytes(body + b"key id and MAC".ljust(48))
        if path == self.directory / "quote":
            path.write_bytes(self.machine.quote_sgx(self.quoted, report_data))
        return super().read(path)


class TsmDevice(DeviceFiles):
    """configfs-tsm: a new entry has attributes; a write of `inblob` counts; `outblob` answers the last write."""

    def __init__(self, machine, directory, provider=b"tdx_guest\n"):
        self.machine = machine
        self.provider = provider
        self.between_write_and_read = lambda entry: None
        directory.mkdir(parents=True)

    def mkdir(self, path):
        super().mkdir(path)
        for name, content in {"inblob": b"", "outblob": b"", "provider": self.provider, "generation": b"0\n"}.items():
            (path / name).write_bytes(content)

    def write(self, path, data):
        assert path.name == "inblob"
        if len(data) != 64:
            raise OSError(errno.EINVAL, "Invalid argument")
        path.write_bytes(b"")
        super().write(path, data)
        self.count(path.parent)

    def count(self, entry):
        generation = entry / "generation"
        generation.write_text(f"{int(generation.read_text()) + 1}\n")

    def read(self, path):
        if path.name == "outblob":
            self.between_write_and_read(path.parent)
            report_data = (path.parent / "inblob").read_bytes()
            path.write_bytes(self.machine.quote_tdx(DOMAIN, report_data))
        return super().read(path)

    def rmdir(self, path):
        for attribute in path.iterdir():
            attribute.unlink()
        super().rmdir(path)


@dataclasses.dataclass
class Subject:
    """A platform, what it is called, and what collateral its quotes need."""

    platform: Platform
    name: str
    tee: str
    directory: Path | None = None
    device: DeviceFiles | None = None
    seals: bool = True
    counts: bool = True


@pytest.fixture(scope="session")
def machine():
    return SimulatedPlatform.create()


@pytest.fixture
def gramine(machine, tmp_path):
    directory = tmp_path / "dev" / "attestation"
    device = GramineDevice(machine, directory)
    return Subject(GraminePlatform(directory, device), "gramine", "SGX", directory, device, counts=False)


@pytest.fixture
def tdx(machine, tmp_path):
    directory = tmp_path / "sys" / "kernel" / "config" / "tsm" / "report"
    device = TsmDevice(machine, directory)
    return Subject(TdxPlatform(directory, device), "tdx", "TDX", directory, device, seals=False, counts=False)


@pytest.fixture
def simulated(machine):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    cpu = threading.Thread(target=serve, args=(ours, machine, ENCLAVE))
    cpu.start()
    platform = SimulatedCpu(theirs)
    yield Subject(platform, "simulated", "SGX")
    platform.close()
    cpu.join(10)
    assert not cpu.is_alive()


@pytest.fixture
def in_process(machine):
    return Subject(InProcessPlatform(machine, ENCLAVE), "simulated", "SGX")


@pytest.fixture(params=["gramine", "tdx", "simulated", "in_process"])
def subject(request):
    """Every implementation in turn."""
    return request.getfixturevalue(request.param)
