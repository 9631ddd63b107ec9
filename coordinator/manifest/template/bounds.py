"""How much one rendering may do and write, so that a hostile manifest cannot exhaust the coordinator."""

from __future__ import annotations

from coordinator.manifest.template.nodes import Position
from coordinator.manifest.template.values import Key, Value

MAX_RENDERED_SIZE = 4 * 1024 * 1024  # the most a gRPC client receives unless told otherwise
MAX_STEPS = 200_000  # nodes, iterations and calls
MAX_CALL_DEPTH = 100  # templates that are being rendered inside of each other

_BYTES_OF_A_STEP = 64  # what a function can read or write for one step


class Bounds:
    """Counts the steps of one rendering."""

    def __init__(self) -> None:
        self._steps = 0

    def step(self, position: Position, count: int = 1) -> None:
        """Count steps.

        Raises:
            TemplateError: there were too many.
        """
        self._steps += count
        if self._steps > MAX_STEPS:
            raise position.error(f"template takes more than {MAX_STEPS} steps")

    def work(self, values: list[Value], position: Position) -> None:
        """Count what it costs to read or write these values.

        Raises:
            TemplateError: one of them is too large to be written, or there were too many steps.
        """
        size = 0
        for value in values:
            if isinstance(value, bytes | Key):
                check_size(len(value), position)
                size += len(value)
        self.step(position, size // _BYTES_OF_A_STEP)


def check_size(size: int, position: Position) -> None:
    """Raises TemplateError if this is more than may be rendered."""
    if size > MAX_RENDERED_SIZE:
        raise position.error(f"template gives more than {MAX_RENDERED_SIZE} bytes")
