"""The `cbs` command: mounts one file per command and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

import typer
import typer.main
from typer.exceptions import TyperException

from cli import demo, enclave_info, enclave_run, enclave_sign, platform_init, platform_serve
from confidential_bookstore.errors import BookstoreError, ConfigurationError

app = typer.Typer(
    help="The confidential bookstore.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 refused or failed, 2 unreachable, 3 wrong use or configuration.",
)

enclave = typer.Typer(help="Build, sign, run and look at enclaves.", no_args_is_help=True)
enclave.command("sign")(enclave_sign.command)
enclave.command("run")(enclave_run.command)
enclave.command("info")(enclave_info.command)
app.add_typer(enclave, name="enclave")

platform = typer.Typer(help="The simulated platform, for machines without SGX or TDX.", no_args_is_help=True)
platform.command("init")(platform_init.command)
platform.command("serve")(platform_serve.command)
app.add_typer(platform, name="platform")

app.command("demo")(demo.command)


def main() -> None:
    """Entry point of the console script."""
    try:
        code = typer.main.get_command(app).main(standalone_mode=False)
    except TyperException as error:  # wrong use; without a message where the help was printed instead
        message = error.format_message()
        code = _say(f"{message}\nhint: try --help" if message else "", ConfigurationError.exit_code)
    except BookstoreError as error:
        code = _say(error.diagnostics(), error.exit_code)
    sys.exit(code)


def _say(message: str, code: int) -> int:
    if message:
        print(f"error: {message}", file=sys.stderr)  # noqa: T201  # the edge of the process
    return code


if __name__ == "__main__":
    main()
