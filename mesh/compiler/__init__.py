"""SMI policy becomes Envoy's configuration: pure functions from values to JSON; no files, no clock.

    layout      where things listen
    compile     one sidecar's clusters, listeners and routes:
      inbound     the rules (rbac) behind mutual TLS (tls), told of in the access log (access_log)
      outbound    a listener for each service that is called, and the splits (routes)
    bootstrap   what Envoy is started with, its files and secrets, and one configuration of everything to validate
    withholding an update without its policy, which comes when everything else has been taken

For requests (HTTP and gRPC seen) the rules are in the route configuration, because open connections follow it, on top
of a filter that refuses everything: if the rules are lost, so is all access. For bytes each account that may connect
has a filter chain of its own, because Envoy looks at a connection once, and ends those of a chain that is taken away.
Tests compare what a real Envoy then grants with `Policy.allow`.

A stream that has begun before a revocation goes on at a sidecar; the marble behind it ends it.
"""

from mesh.compiler.bootstrap import (
    ARGUMENTS,
    bootstrap,
    discovery,
    files,
    secret_files,
    secrets,
    validation_config,
    version_statistics,
)
from mesh.compiler.compile import Resources, compile_sidecar
from mesh.compiler.layout import Address, Layout, Placement, read_layout
from mesh.compiler.withholding import withholding_policy

__all__ = [
    "ARGUMENTS",
    "Address",
    "Layout",
    "Placement",
    "Resources",
    "bootstrap",
    "compile_sidecar",
    "discovery",
    "files",
    "read_layout",
    "secret_files",
    "secrets",
    "validation_config",
    "version_statistics",
    "withholding_policy",
]
