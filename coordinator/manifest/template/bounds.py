"""How much one rendering may do and write, so that a hostile manifest cannot exhaust the coordinator."""

from __future__ import annotations

from coordinator.manifest.template.nodes import Position
from coordinator.manifest.template.values import Key, Value

MAX_RENDERED_SIZE = 4 * 1024 * 1024  # the most a gRPC client receives unless told otherwise
MAX_STEPS = 200_000  # nodes, iterations and calls of one rendering
MAX_CALL_DEPTH = 100  # templates that are being rendered inside of each other

_BYTES_OF_A_STEP = 64  # what a function can read or write for one step


class Bounds:
    """Counts the steps of one rendering, or of several together.

    Args:
        most: steps that are allowed.
        subject: of the sentence that says that there were more.
        whole: counts the same steps together with those of other renderings.
    """

    def __init__(self, most: int = MAX_STEPS, subject: str = "template takes", whole: Bounds | None = None) -> None:
        self._most = most
        self._subject = subject
        self._whole = whole
        self._steps = 0

    def step(self, position: Position, count: int = 1) -> None:
        """Count steps.

        Raises:
            TemplateError: there were too many.
        """
        self._steps += count
        if self._steps > self._most:
            raise position.error(f"{self._subject} more than {self._most} steps")
        if self._whole is not None:
            self._whole.step(position, count)

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
