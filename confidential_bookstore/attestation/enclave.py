"""`enclave.json`: what an enclave is called, what it runs, and what may enter it from its host. Mirrors EGo's file.

    {"name": "bookstore", "module": "services.bookstore", "extra": "bookstore",
     "productID": 3, "securityVersion": 1, "debug": false,
     "env": [{"name": "EDG_LOG_FORMAT", "value": "json"},                   fixed: the host's value is ignored
             {"name": "EDG_MARBLE_TYPE", "fromHost": true},                 from the host, if it sets it
             {"name": "CBS_LISTEN_ADDR", "value": "", "fromHost": true}],   from the host, else this value
     "coordinator": {"productID": 1, "securityVersion": 1}}                 marbles only: the one they accept,
                                                         of the marble's own signer unless "signerID" (hex) says whose

The file is part of the image, so the measurement covers it. `debug` is taken into the SIGSTRUCT.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.errors import ConfigurationError

# The image holds its configuration as resources of this package.
MEASURED_PACKAGE = "measured"
CONFIG_RESOURCE = "enclave.json"
TRUST_ROOT_RESOURCE = "trust_root.pem"

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_SIGNER = re.compile(r"[0-9a-f]{64}|")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentVariable:
    """A variable that enters the enclave: with a fixed `value`, from the host, or from the host with a default."""

    name: str
    value: str | None = None
    from_host: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorRequirement:
    """Which coordinator a marble accepts. An empty `signer_id` (hex) stands for the marble's own signer."""

    product_id: int
    security_version: int
    signer_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveConfig:
    """The parsed file."""

    name: str
    module: str
    extra: str
    product_id: int
    security_version: int
    debug: bool
    env: tuple[EnvironmentVariable, ...] = ()
    coordinator: CoordinatorRequirement | None = None

    @classmethod
    def parse(cls, text: str | bytes, source: str = "enclave.json") -> EnclaveConfig:
        """Strict: unknown keys, wrong types and numbers beyond 16 bits are errors. `source` is named in them.

        Raises:
            ConfigurationError: the text is not a valid enclave.json.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{source} is not JSON", got=str(error)) from error
        fields = _Fields(document, source)
        config = cls(
            name=fields.text("name", _NAME),
            module=fields.text("module", _MODULE),
            extra=fields.text("extra", _NAME),
            product_id=fields.number("productID"),
            security_version=fields.number("securityVersion"),
            debug=fields.flag("debug"),
            env=_variables(fields.value("env", list, []), f"{source}: env"),
            coordinator=_coordinator(fields.value("coordinator", dict, None), f"{source}: coordinator"),
        )
        fields.finish()
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredConfig:
    """What was signed together with the code.

    Attributes:
        config: the enclave's `enclave.json`.
        trust_root_pem: the root certificate under which quotes of others must verify; empty means Intel's.
    """

    config: EnclaveConfig
    trust_root_pem: bytes

    @property
    def trust_root(self) -> TrustRoot:
        """The root under which quotes of others must verify."""
        return TrustRoot.from_pem(self.trust_root_pem) if self.trust_root_pem else TrustRoot.intel()

    @classmethod
    def load(cls) -> MeasuredConfig:
        """Read it from the image this program runs from.

        Raises:
            ConfigurationError: the program does not run from an enclave image.
        """
        try:
            resources = importlib.resources.files(MEASURED_PACKAGE)
            text = resources.joinpath(CONFIG_RESOURCE).read_bytes()
            trust_root_pem = resources.joinpath(TRUST_ROOT_RESOURCE).read_bytes()
        except (ModuleNotFoundError, FileNotFoundError) as error:
            raise ConfigurationError(
                "this program does not run from an enclave image",
                hint="sign it with `cbs enclave sign` and start it with `cbs enclave run`",
            ) from error
        return cls(
            config=EnclaveConfig.parse(text, f"{MEASURED_PACKAGE}/{CONFIG_RESOURCE}"), trust_root_pem=trust_root_pem
        )


class _Fields:
    """Takes typed values out of a JSON object; `finish` refuses what is left."""

    def __init__(self, document: object, source: str) -> None:
        if not isinstance(document, dict):
            raise ConfigurationError(f"{source} has the wrong type", got=type(document).__name__, expected="an object")
        self._left: dict[str, Any] = dict(document)
        self._source = source

    def value(self, key: str, kind: type, *default: Any) -> Any:
        if key not in self._left and default:
            return default[0]
        value = self._left.pop(key, None)
        if type(value) is not kind:  # not isinstance: true is an int in Python, but no number in JSON
            got = "nothing" if value is None else type(value).__name__
            raise ConfigurationError(f'{self._source}: "{key}" has the wrong type', got=got, expected=kind.__name__)
        return value

    def text(self, key: str, pattern: re.Pattern[str], *default: str) -> str:
        value: str = self.value(key, str, *default)
        if not pattern.fullmatch(value):
            raise ConfigurationError(
                f'{self._source}: "{key}" is malformed', got=repr(value), expected=f"a match for {pattern.pattern}"
            )
        return value

    def number(self, key: str) -> int:
        value: int = self.value(key, int)
        if not 0 <= value <= 0xFFFF:
            raise ConfigurationError(f'{self._source}: "{key}" is out of range', got=value, expected="0 to 65535")
        return value

    def flag(self, key: str) -> bool:
        value: bool = self.value(key, bool, False)
        return value

    def finish(self) -> None:
        if self._left:
            raise ConfigurationError(f"{self._source} has unknown keys", got=", ".join(sorted(self._left)))


def _variables(entries: list[object], source: str) -> tuple[EnvironmentVariable, ...]:
    variables: dict[str, EnvironmentVariable] = {}
    for index, entry in enumerate(entries):
        where = f"{source}[{index}]"
        fields = _Fields(entry, where)
        variable = EnvironmentVariable(
            name=fields.text("name", _VARIABLE),
            value=fields.value("value", str, None),
            from_host=fields.flag("fromHost"),
        )
        fields.finish()
        if variable.value is None and not variable.from_host:
            raise ConfigurationError(f"{where} has no value", expected='"value", "fromHost": true, or both')
        if "\0" in (variable.value or ""):
            raise ConfigurationError(f'{where}: "value" contains a null character')
        if variable.name in variables:
            raise ConfigurationError(f"{where} names a variable a second time", got=variable.name)
        variables[variable.name] = variable
    return tuple(variables.values())


def _coordinator(entry: Mapping[str, object] | None, source: str) -> CoordinatorRequirement | None:
    if entry is None:
        return None
    fields = _Fields(entry, source)
    requirement = CoordinatorRequirement(
        product_id=fields.number("productID"),
        security_version=fields.number("securityVersion"),
        signer_id=fields.text("signerID", _SIGNER, ""),
    )
    fields.finish()
    return requirement
