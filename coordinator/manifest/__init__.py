"""The manifest: reading it strictly, checking all of its rules, rendering its templates."""

from coordinator.manifest.config import ConfigSpec, FeatureGate, SealMode
from coordinator.manifest.infrastructures import InfrastructureSpec, check_infrastructures
from coordinator.manifest.loading import load_manifest
from coordinator.manifest.marbles import FileSpec, MarbleSpec, ParametersSpec
from coordinator.manifest.model import Manifest
from coordinator.manifest.packages import PackageSpec
from coordinator.manifest.recovery_keys import RecoveryKeySpec
from coordinator.manifest.secrets import SecretSpec
from coordinator.manifest.tls import IncomingSpec, OutgoingSpec, TlsTagSpec
from coordinator.manifest.users import Action, ResourceType, RoleSpec, UserSpec

__all__ = [
    "Action",
    "ConfigSpec",
    "FeatureGate",
    "FileSpec",
    "IncomingSpec",
    "InfrastructureSpec",
    "Manifest",
    "MarbleSpec",
    "OutgoingSpec",
    "PackageSpec",
    "ParametersSpec",
    "RecoveryKeySpec",
    "ResourceType",
    "RoleSpec",
    "SealMode",
    "SecretSpec",
    "TlsTagSpec",
    "UserSpec",
    "check_infrastructures",
    "load_manifest",
]
