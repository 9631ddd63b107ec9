"""Who issues a quote. The services do not know which platform they run on.

One interface, one module per platform, and `find_platform` which looks for them in a fixed order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from confidential_bookstore.attestation.platforms import gramine, simulated, tdx
from confidential_bookstore.attestation.platforms.interface import Platform, SealPolicy
from confidential_bookstore.errors import NoPlatform

__all__ = ["Platform", "SealPolicy", "find_platform"]


def find_platform(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> Platform:
    """The platform this process runs on.

    Gramine comes first: there, a variable may be the host's, and must not turn a hardware enclave into a simulated one.
    The simulated CPU comes before TDX, so that the simulation also runs in a TDX guest; nobody outside the guest can
    set a variable there.

    Args:
        environ: where the launcher left the number of its socket.
        root: the file system to look at.

    Raises:
        NoPlatform: none was found.
        PlatformError: one was found, but it cannot be used.
    """
    if (directory := root / gramine.DIRECTORY).is_dir():
        return gramine.GraminePlatform(directory)
    if number := environ.get(simulated.SOCKET_VARIABLE):
        return simulated.SimulatedCpu.from_descriptor(number)
    if (directory := root / tdx.DIRECTORY).is_dir():
        return tdx.TdxPlatform(directory)
    raise NoPlatform(
        "no trusted execution environment",
        expected=f"{root / gramine.DIRECTORY}, {simulated.SOCKET_VARIABLE}, or {root / tdx.DIRECTORY}",
    )
