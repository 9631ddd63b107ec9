"""The `cbs` command: mounts one file per command and turns errors into messages and exit codes."""

from __future__ import annotations

import sys

import typer
import typer.main
from typer.exceptions import TyperException

from cli import (
    certificate,
    context_list,
    context_set,
    context_show,
    context_unpin,
    context_use,
    demo,
    enclave_info,
    enclave_run,
    enclave_sign,
    manifest_acknowledge,
    manifest_build,
    manifest_cancel,
    manifest_get,
    manifest_lint,
    manifest_log,
    manifest_set,
    manifest_show_update,
    manifest_signature,
    manifest_update,
    manifest_verify,
    marble_list,
    marble_run,
    mesh_export,
    mesh_permissive,
    mesh_run,
    mesh_status,
    package_info,
    platform_init,
    platform_serve,
    policy_allow,
    policy_deny,
    policy_explain,
    policy_lint,
    policy_list,
    recover_decrypt,
    recover_encrypt,
    recover_public_key,
    recover_sign,
    recover_upload,
    secret_get,
    secret_set,
    split,
    status,
    up,
    verify,
)
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

manifest = typer.Typer(help="The manifest: what may run, and who may change it.", no_args_is_help=True)
manifest.command("build")(manifest_build.command)
manifest.command("set")(manifest_set.command)
manifest.command("get")(manifest_get.command)
manifest.command("verify")(manifest_verify.command)
manifest.command("update")(manifest_update.command)
manifest.command("show-update")(manifest_show_update.command)
manifest.command("acknowledge")(manifest_acknowledge.command)
manifest.command("cancel")(manifest_cancel.command)
manifest.command("log")(manifest_log.command)
manifest.command("signature")(manifest_signature.command)
manifest.command("lint")(manifest_lint.command)

secret = typer.Typer(help="Secrets of the manifest, for users who may read or write them.", no_args_is_help=True)
secret.command("get")(secret_get.command)
secret.command("set")(secret_set.command)

recover = typer.Typer(help="Recovery of a coordinator that cannot unseal its state.", no_args_is_help=True)
recover.command("upload")(recover_upload.command)
recover.command("public-key")(recover_public_key.command)
recover.command("decrypt")(recover_decrypt.command)
recover.command("sign")(recover_sign.command)
recover.command("encrypt")(recover_encrypt.command)

marble = typer.Typer(help="The marbles of a coordinator, and how to run a program as one.", no_args_is_help=True)
marble.command("list")(marble_list.command)
marble.command("run")(marble_run.command)

context = typer.Typer(help="Named deployments, so that no command needs its connection again.", no_args_is_help=True)
context.command("set")(context_set.command)
context.command("show")(context_show.command)
context.command("use")(context_use.command)
context.command("list")(context_list.command)
context.command("unpin")(context_unpin.command)

mesh = typer.Typer(help="The service mesh of one machine: Envoy sidecars and their policy.", no_args_is_help=True)
mesh.command("export")(mesh_export.command)
mesh.command("run")(mesh_run.command)
mesh.command("status")(mesh_status.command)
mesh.command("permissive")(mesh_permissive.command)

policy = typer.Typer(help="Who may call what: at the sidecars, and inside the marbles.", no_args_is_help=True)
policy.command("allow")(policy_allow.command)
policy.command("deny")(policy_deny.command)
policy.command("explain")(policy_explain.command)
policy.command("list")(policy_list.command)
policy.command("lint")(policy_lint.command)

app.command("status")(status.command)
app.command("verify")(verify.command)
app.command("certificate")(certificate.command)
app.add_typer(manifest, name="manifest")
app.add_typer(secret, name="secret")
app.add_typer(recover, name="recover")
app.add_typer(marble, name="marble")
app.add_typer(mesh, name="mesh")
app.add_typer(context, name="context")
app.add_typer(policy, name="policy")
app.command("split")(split.command)
app.command("package-info")(package_info.command)
app.command("demo")(demo.command)
app.command("up")(up.command)


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
