"""The manifest: reading it strictly, checking all of its rules, rendering its templates."""

from coordinator.manifest.marbles import FileSpec, MarbleSpec, ParametersSpec
from coordinator.manifest.model import Manifest, load_manifest
from coordinator.manifest.packages import PackageSpec
from coordinator.manifest.secrets import SecretSpec

__all__ = ["FileSpec", "Manifest", "MarbleSpec", "PackageSpec", "ParametersSpec", "SecretSpec", "load_manifest"]
