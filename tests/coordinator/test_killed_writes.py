"""kill -9 at every operation on the disk: a coordinator comes back with the old state or the new one, never none."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from coordinators import COORDINATOR, client_of

from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform

WRITER = Path(__file__).with_name("killed_writer.py")
MOST = 40  # operations of one step, far more than there are


def write(directory: Path, platform: Path, operation: int, step: str) -> bool:
    """Whether the writer came to its end, instead of being killed at this operation."""
    done = subprocess.run(
        [sys.executable, WRITER, directory, platform, str(operation), step],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode == 0


@pytest.fixture(scope="module")
def platform_folder(tmp_path_factory, machine) -> Path:
    folder = tmp_path_factory.mktemp("machine") / "platform"
    machine.save(folder)
    return folder


def prepared(tmp_path: Path, platform_folder: Path, *steps: str) -> tuple[Path, Path]:
    """A state in which these steps are done, and the machine it is sealed on, with its counters."""
    directory, platform = tmp_path / "prepared", tmp_path / "platform"
    directory.mkdir(mode=0o700)
    shutil.copytree(platform_folder, platform)
    for step in steps:
        assert write(directory, platform, MOST, step)
    return directory, platform


async def found(start, directory: Path, platform: Path) -> tuple[int, int]:
    """State and number of lines in the update log of a coordinator that is started on what was left."""
    machine = InProcessPlatform(SimulatedPlatform.load(platform), COORDINATOR)
    async with start({"seal_directory": directory}, platform=machine) as running, client_of(running) as client:
        code = (await client.data("/api/v2/status"))["code"]
        lines = (await client.data("/api/v2/update"))["updateLog"] if code == 3 else []
    return code, len(lines)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "change",
    [
        ((), "begin", (2, 0), (2, 0)),
        (("begin",), "manifest", (2, 0), (3, 1)),
        (("begin", "manifest"), "update", (3, 1), (3, 2)),
    ],
)
async def test_the_old_state_or_the_new_one(start, tmp_path, platform_folder, change):
    before, step, old, new = change
    prepared_directory, prepared_platform = prepared(tmp_path, platform_folder, *before)
    ended = []
    for operation in range(MOST):
        directory, platform = tmp_path / f"state{operation}", tmp_path / f"platform{operation}"
        shutil.copytree(prepared_directory, directory)
        shutil.copytree(prepared_platform, platform)
        finished = write(directory, platform, operation, step)
        ended.append(await found(start, directory, platform))
        assert ended[-1] in (old, new)
        # And a second start finds the same.
        assert await found(start, directory, platform) == ended[-1]
        if finished:
            break
    assert ended[-1] == new
    assert len(ended) > 5
    assert ended == sorted(ended)  # once the new state is there, it is there for good
