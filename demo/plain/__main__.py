"""Runs one service as an ordinary process: `python -m demo.plain SERVICE`."""

from __future__ import annotations

import sys

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.serving.process import run
from demo.plain.programs import PROGRAMS


def main(arguments: list[str]) -> None:
    """The one argument is the service's name."""
    program = PROGRAMS.get(arguments[0]) if len(arguments) == 1 else None
    if program is None:
        error = ConfigurationError("there is no such service", got=" ".join(arguments), expected=", ".join(PROGRAMS))
        print(error.diagnostics(), file=sys.stderr)  # noqa: T201  # the edge of the process
        sys.exit(error.exit_code)
    run(arguments[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
