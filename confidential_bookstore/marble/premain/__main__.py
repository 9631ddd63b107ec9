"""The premain of an enclave image: `[--] PROGRAM [ARGUMENTS]`, and everything else from the configuration."""

from __future__ import annotations

import os
import sys

from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.marble.premain.launch import launch
from confidential_bookstore.marble.premain.setup import measured_setup


def main() -> None:
    """Becomes the program, or says why not."""
    command = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    try:
        launch(command, measured_setup, os.environ)
    except BookstoreError as error:
        sys.stderr.write(f"error: {error.diagnostics()}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
