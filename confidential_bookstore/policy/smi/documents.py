"""YAML text to documents, each with its kind and name; nothing is interpreted yet.

Limits: 1 MiB a file, 5,000 documents in all, 100 levels; no anchors and no tags, so that a small file cannot stand for
a large one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.events import AliasEvent, CollectionStartEvent, NodeEvent
from yaml.nodes import MappingNode, ScalarNode

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.smi.fields import Field

MAXIMUM_BYTES = 1024 * 1024
MAXIMUM_DOCUMENTS = 5_000
_MAXIMUM_DEPTH = 100
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML has it


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `start` and `end` are its place in the file's text, in characters."""

    api_version: Field
    kind: Field
    named: Field
    name: str
    namespace: str
    spec: Field
    whole: Field
    start: int
    end: int

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def label(self) -> str:
        """Its name, which has to be a DNS label."""
        return self.named.label()


def read_documents(text: str, file: str) -> list[Document]:
    """The documents of one file that are not empty.

    Raises:
        PolicyError: not YAML, more than the limits allow, or a document without apiVersion, kind or name.
    """
    if len(text) > MAXIMUM_BYTES or len(text.encode(errors="surrogatepass")) > MAXIMUM_BYTES:
        raise PolicyError(file, "", "the file is too large", expected=f"at most {MAXIMUM_BYTES} bytes")
    try:
        _check_events(text, file)
        nodes = [node for node in yaml.compose_all(text, Loader=_LOADER) if not _is_null(node)]
    except yaml.YAMLError as error:
        raise _not_yaml(error, file) from None
    except (ValueError, RecursionError) as error:  # characters that no YAML may have
        raise PolicyError(file, "", f"not YAML: {_first_line(error)}") from None
    return [_document(node, file) for node in nodes]


def _check_events(text: str, file: str) -> None:
    """Looks at the stream before any of it is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        mark = event.start_mark
        where = file if mark is None else f"{file}:{mark.line + 1}"
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            raise PolicyError(where, "", "anchors and aliases are not taken", hint="write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise PolicyError(where, "", "tags are not taken", got=tag)
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAXIMUM_DEPTH:
            raise PolicyError(where, "", "too many levels", expected=f"at most {_MAXIMUM_DEPTH}")


def _document(node: yaml.Node, file: str) -> Document:
    title = " ".join(filter(None, _title(node))) or "document"
    whole = Field(node, file, title)
    fields = dict(whole.pairs())
    if isinstance(kind := fields["kind"].node if "kind" in fields else None, ScalarNode) and kind.value == "List":
        raise fields["kind"].error("a List is not taken", hint="write its items as documents, with --- between them")
    for name in ("apiVersion", "kind", "metadata", "spec"):
        if name not in fields:
            raise whole.error(f"{name} is missing", hint="is this a Kubernetes document?")
    fields = whole.map(("apiVersion", "kind", "metadata", "spec"))
    metadata = fields["metadata"].map(("name",), ("namespace", "labels", "annotations"))
    for extra in ("labels", "annotations"):
        if extra in metadata:
            for _, value in metadata[extra].pairs():
                value.text()
    return Document(
        api_version=fields["apiVersion"],
        kind=fields["kind"],
        named=metadata["name"],
        name=metadata["name"].name(),
        namespace=metadata["namespace"].label() if "namespace" in metadata else "default",
        spec=fields["spec"],
        whole=whole,
        start=node.start_mark.index,
        end=node.end_mark.index,
    )


def _title(node: yaml.Node) -> Iterator[str]:
    """Kind and `namespace/name`, as far as they are there, for messages about anything else in the document."""
    top = _texts(node)
    metadata = _texts(top.get("metadata"))
    yield str(getattr(top.get("kind"), "value", ""))[:80]
    names = [getattr(metadata.get(each), "value", None) for each in ("namespace", "name")]
    yield "/".join(str(each)[:80] for each in names if isinstance(each, str))


def _texts(node: yaml.Node | None) -> dict[str, yaml.Node]:
    if not isinstance(node, MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, ScalarNode)}


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _not_yaml(error: yaml.YAMLError, file: str) -> PolicyError:
    mark = getattr(error, "problem_mark", None)
    where = file if mark is None else f"{file}:{mark.line + 1}"
    words = " ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or _first_line(
        error
    )
    return PolicyError(where, "", f"not YAML: {words}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
