"""The `cbs` command: mounts one file per command and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

import typer

from cli import demo, enclave_info, enclave_run, enclave_sign, platform_init, platform_serve
from confidential_bookstore.errors import BookstoreError

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
        app()
    except BookstoreError as error:
        print(f"error: {error.diagnostics()}", file=sys.stderr)  # noqa: T201  # the edge of the process
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
