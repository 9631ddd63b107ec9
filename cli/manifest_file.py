"""Manifests in files: JSON is taken byte for byte, YAML becomes JSON as MarbleRun's command line writes it.

The bytes are a manifest's identity, so the conversion is exact: sorted keys, no spaces, and `<`, `>`, `&` escaped as in
Go. Where versions of YAML disagree about a value (`yes`, `0777`, `1e3`), it has to be quoted; it is never guessed.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from cli.files import read_file
from confidential_bookstore.errors import ConfigurationError

_ESCAPED = re.compile("[<>&\u2028\u2029]")
_FINGERPRINT = re.compile("[0-9a-fA-F]{64}")
_PLAIN_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = {"", "~", "null", "Null", "NULL"}
_AMBIGUOUS = re.compile(
    r"<<|[yY]|[nN]|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"  # booleans in YAML 1.1 only
    r"|[-+]?(0[0-9_]+|0[bBoOxX][0-9A-Fa-f_]+|[0-9][0-9_]*)"  # numbers that are not plainly decimal
    r"|[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


def read_manifest_file(path: Path) -> bytes:
    """The manifest's bytes.

    Raises:
        ConfigurationError: the file cannot be read, or is neither JSON nor unambiguous YAML.
    """
    raw = read_file(path, "the manifest")
    if _is_json(raw):
        return raw
    return yaml_to_json(raw, str(path))


def yaml_to_json(raw: bytes, source: str) -> bytes:
    """A YAML document as JSON; `source` is named in errors.

    Raises:
        ConfigurationError: it is not YAML, has a key twice, or a value that is ambiguous or that JSON does not have.
    """
    try:
        loader = _StrictLoader(raw.decode())
        loader.name = source
        document = loader.get_single_data()
        if not isinstance(document, dict):
            raise ConfigurationError(f"{source} is not a manifest", got=type(document).__name__, expected="an object")
        compact = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", compact).encode()
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source} is neither JSON nor YAML", got=" ".join(str(error).split())) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{source} cannot be written as JSON", got=str(error)) from error


def _is_json(raw: bytes) -> bool:
    def no_constant(name: str) -> Any:
        raise ValueError(name)

    try:
        json.loads(raw, parse_constant=no_constant)
    except (ValueError, RecursionError):
        return False
    return True


class _StrictLoader(yaml.SafeLoader):
    """No key twice, text keys only, and no guessing."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own way; plain values are all ours

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or (not key.style and _scalar(key) is not key.value):
                raise _at(key, "a key is not text; quote it")
            if key.value in seen:
                raise _at(key, f"key {key.value!r} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _construct_text(_loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise _at(node, "not a value")
    return node.value if node.style else _scalar(node)


def _scalar(node: yaml.ScalarNode) -> Any:
    """A plain value: a decimal number, true or false, nothing, or text."""
    value = node.value
    if value in _NULLS:
        return None
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    if _PLAIN_NUMBER.fullmatch(value) and value != "-0":
        return _number(node, int(value))
    if _AMBIGUOUS.fullmatch(value):
        raise _at(node, f"{value} means different things in different versions of YAML; quote it")
    return value


def _number(node: yaml.ScalarNode, value: int) -> int:
    if not -(1 << 63) <= value < 1 << 64:
        raise _at(node, "the number is out of range")
    return value


def _at(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_StrictLoader.add_constructor("tag:yaml.org,2002:str", _construct_text)


def expected_fingerprint(text: str) -> str:
    """64 hex digits as they are, or the fingerprint of the manifest in that file.

    Raises:
        ConfigurationError: it is neither.
    """
    if _FINGERPRINT.fullmatch(text):
        return text.lower()
    return hashlib.sha256(read_manifest_file(Path(text))).hexdigest()
