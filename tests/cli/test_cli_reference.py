"""The page about the command line, and `--help`: every command is there, and every example could be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from deployments import cbs

from cli.__main__ import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands())
EXAMPLES = re.findall(r"^\$ (cbs .*)$", PAGE, re.MULTILINE)


def own_options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts if name.startswith("-")}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_page_has_it_with_an_example(path):
    name = " ".join(("cbs", *path))
    assert f"### `{name}`\n" in PAGE
    assert [example for example in EXAMPLES if f"{example} ".startswith(f"{name} ")]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help(path):
    said = cbs(*path, "--help")
    assert said.code == 0, said.err
    assert "Usage:" in said.out
    assert COMMANDS[path].help


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_could_be_typed(example):
    words = shlex.split(example)[1:]
    path = next(path for path in COMMANDS if tuple(words[: len(path)]) == path)
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= own_options(COMMANDS[path])


def test_no_command_is_left_over():
    described = {tuple(name.split()) for name in re.findall(r"^### `cbs (.*)`$", PAGE, re.MULTILINE)}
    assert described == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_options_of_its_own_are_on_the_page(path):
    """Connection options once for all; those of enclaves and platforms are in `--help`."""
    if path[0] in ("enclave", "platform", "demo"):
        return
    assert {name for name in own_options(COMMANDS[path]) if name.startswith("--") and name not in PAGE} <= {"--help"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_output_is_a_choice_everywhere(path):
    if path not in (("enclave", "run"), ("marble", "run")):  # what they print is the program's
        assert "--output" in own_options(COMMANDS[path])


def test_links_within_the_page():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([^)]*)\)", PAGE)) <= headings
