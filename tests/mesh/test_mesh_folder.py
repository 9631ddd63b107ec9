"""What a folder says, read as a whole or not at all; and one control plane for it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from controller_world import STORE, MeshWorld

from confidential_bookstore.errors import ConfigurationError, MeshError, PolicyError
from mesh import folder_lock
from mesh.folder import compile_folder, fingerprint

ACCESS = "traffic-access-v1.yaml"
HOLDER = """
import pathlib, sys
from mesh.folder_lock import held
with held(pathlib.Path(sys.argv[1])):
    print(flush=True)
    input()
"""


@pytest.fixture
def world(tmp_path, pytestconfig) -> MeshWorld:
    return MeshWorld(tmp_path, pytestconfig.rootpath)


def test_a_file_that_is_cut_off_inside_of_a_line_is_an_error(world):
    """Without its last lines a rule would have no `matches`, and grant all of its group."""
    whole = (world.policy / ACCESS).read_text()
    assert compile_folder(world.folder, seal=False).sidecars
    for length in range(1, len(whole)):
        if whole[length - 1] == "\n":
            continue
        (world.policy / ACCESS).write_text(whole[:length])
        with pytest.raises(PolicyError, match=ACCESS):
            compile_folder(world.folder, seal=False)


def test_a_half_written_file_is_told_with_its_line(world):
    (world.policy / "z.yaml").write_text("# one\n# tw")
    with pytest.raises(PolicyError, match=r"z\.yaml:2: the last line has no end") as error:
        compile_folder(world.folder, seal=False)
    assert "renamed into its place" in error.value.hint


def test_the_fingerprint_changes_with_each_change(world):
    seen = [fingerprint(world.folder)]
    assert fingerprint(world.folder) == seen[0]
    for change in (
        lambda: (world.policy / "a.yaml").write_text("# a\n"),
        lambda: (world.policy / "a.yaml").rename(world.policy / "b.yaml"),
        (world.policy / "b.yaml").unlink,
        lambda: (world.folder / "layout.json").write_text("{}"),
        (world.folder / "layout.json").unlink,
        lambda: world.policy.rename(world.folder / "gone"),
    ):
        change()
        seen.append(fingerprint(world.folder))
    assert seen[1] != seen[2] != seen[3]
    assert len({*seen[3:]}) == len(seen[3:])


@pytest.mark.parametrize("layout", [None, "{", '{"services": []}', json.dumps({"services": {"no/such": {}}})])
def test_a_layout_that_is_none(world, layout):
    path = world.folder / "layout.json"
    path.unlink() if layout is None else path.write_text(layout)
    with pytest.raises(ConfigurationError):
        compile_folder(world.folder, seal=False)


def test_what_is_sealed_has_no_routes(world):
    assert compile_folder(world.folder, seal=False).sidecars[STORE].routes
    assert not compile_folder(world.folder, seal=True).sidecars[STORE].routes


def test_one_control_plane_for_a_folder(tmp_path):
    assert not folder_lock.is_held(tmp_path)
    with folder_lock.held(tmp_path):
        assert folder_lock.is_held(tmp_path)
        with pytest.raises(MeshError, match="another control plane"), folder_lock.held(tmp_path):
            pass
    assert not folder_lock.is_held(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be written"), folder_lock.held(tmp_path / "nowhere"):
        pass


def test_the_lock_goes_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert folder_lock.is_held(tmp_path)
        holder.kill()
        holder.wait()
        assert not folder_lock.is_held(tmp_path)
