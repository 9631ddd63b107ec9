"""The small kind of update: higher SecurityVersions for packages, and nothing else.

Told from a full manifest by its content, as in MarbleRun: all sections but `Packages` are empty, `Config` is not looked
at. The messages are MarbleRun's.
"""

from __future__ import annotations

from collections.abc import Mapping

from confidential_bookstore.errors import UpdateError
from coordinator.manifest.document import Members, parse_document
from coordinator.manifest.fields import Fields, Node, Notes
from coordinator.manifest.loading import SECTIONS
from coordinator.manifest.packages import PACKAGE_FIELDS, PackageSpec

_OTHER_SECTIONS = tuple(name for name in SECTIONS if name not in {"Packages", "Config"})


def read_package_update(raw: bytes, *, tolerant: bool = False) -> dict[str, int] | None:
    """The new SecurityVersion of each package, or None if the document is a full manifest.

    Raises:
        ManifestError: it is not a document of the right shape.
        UpdateError: it changes nothing, or more than a SecurityVersion.
    """
    root = Node(parse_document(raw), "", Notes() if tolerant else None)
    fields = root.fields(SECTIONS)
    if any(not _is_absent(fields, name) for name in _OTHER_SECTIONS):
        return None
    versions = {name: _read_version(node) for name, node in fields.entries("Packages").items()}
    if not versions:
        raise UpdateError("update manifest does not specify a package to update")
    return versions


def check_package_update(versions: Mapping[str, int], packages: Mapping[str, PackageSpec]) -> None:
    """Whether the packages in force can get these SecurityVersions.

    Raises:
        UpdateError: a package does not exist, has no SecurityVersion that could be raised, or a higher one.
    """
    for name, version in versions.items():
        package = packages.get(name)
        if package is None:
            raise UpdateError(
                "update manifest specifies a package which the original manifest does not contain",
                got=ascii(name[:80]),
            )
        if package.unique_id:
            raise UpdateError(
                "update manifest contains unupdatable values",
                got=f"a SecurityVersion for {name[:80]!a}, which is identified by its UniqueID",
                hint="other code has another UniqueID: update the whole manifest",
            )
        if package.security_version is not None and version < package.security_version:
            raise UpdateError(
                "update manifest tries to downgrade SecurityVersion of the original manifest",
                got=version,
                expected=f"at least {package.security_version} for {name[:80]!a}",
            )


def _is_absent(fields: Fields, name: str) -> bool:
    node = fields.get(name)
    return node is None or (isinstance(node.value, Members) and node.is_empty())


def _read_version(node: Node) -> int:
    fields = node.fields(PACKAGE_FIELDS)
    version = fields.optional_integer("SecurityVersion")
    others = [name for name, value in fields.found.items() if name != "SecurityVersion" and not _means_nothing(value)]
    if others:
        raise UpdateError("update manifest contains unupdatable values", got=f"{node.path}: {', '.join(others)}")
    if version is None:
        raise UpdateError("update manifest does not specify a SecurityVersion to update", got=node.path)
    return version


def _means_nothing(node: Node) -> bool:
    """An empty value; but a ProductID of 0 is one."""
    return node.is_empty() and not (node.value == 0 and not isinstance(node.value, bool))
