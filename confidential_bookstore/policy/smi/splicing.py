"""Changes in the texts of a folder of policy, as small as they can be: one value, one document, or some at the end.

Everything else stays as it is, byte for byte. What comes out is read again, so a text that the reader would refuse
never leaves this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import yaml
from yaml.nodes import CollectionNode, MappingNode, SequenceNode

from confidential_bookstore.policy.smi.documents import Document, read_documents
from confidential_bookstore.policy.smi.fields import Field
from confidential_bookstore.policy.smi.model import Documents
from confidential_bookstore.policy.smi.reading import read_texts

Edits: TypeAlias = dict[str, str | None]  # by file name; None: the file goes
_BREAK = r"(?:\A|(?<=[\n\r\x85\u2028\u2029]))"  # what ends a line in YAML
_SEPARATOR = re.compile(_BREAK + r"---(?=\s|\Z)")
_BARE_SEPARATOR = re.compile(r"---[ \t]*(?:\r\n|\n|\r|\Z)")
_ENDLESS = 1 << 20  # of characters a line


class Folder:
    """The texts of a folder, and changes to them that `edits` carries out.

    Attributes:
        documents: what the texts say.
        written: each document of them, by kind and `namespace/name`.

    Raises:
        PolicyError: the texts break a rule.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {file: text.removeprefix("\ufeff") for file, text in texts.items()}
        self.documents: Documents = read_texts(self._texts)
        self.written: dict[tuple[str, str], Document] = {
            (document.kind.text(), document.key): document
            for file, text in sorted(self._texts.items())
            for document in read_documents(text, file)
        }
        self._values: dict[str, list[tuple[Field, Any]]] = {}
        self._removed: dict[str, list[Document]] = {}
        self._added: dict[str, list[Mapping[str, Any]]] = {}

    def put(self, field: Field, value: Any) -> None:
        """Another value in place of this one."""
        self._values.setdefault(field.file, []).append((field, value))

    def remove(self, document: Document) -> None:
        """Without this document and the comments before it."""
        self._removed.setdefault(document.whole.file, []).append(document)

    def add(self, file: str, document: Mapping[str, Any]) -> None:
        """One more document at the end of a file, which is made if there is none."""
        self._added.setdefault(file, []).append(document)

    def edits(self) -> Edits:
        """The files that have another text now.

        Raises:
            PolicyError: the new texts break a rule.
        """
        changed: Edits = {file: self._changed(file) for file in {*self._values, *self._removed, *self._added}}
        after = {**self._texts, **changed}
        read_texts({file: text for file, text in after.items() if text is not None})
        return {file: text for file, text in sorted(changed.items()) if text != self._texts.get(file)}

    def _changed(self, file: str) -> str | None:
        text = self._texts.get(file, "")
        added = self._added.get(file, [])
        removed = self._removed.get(file, [])
        total = sum(document.whole.file == file for document in self.written.values())
        if len(removed) == total and not added:
            return None
        newline = "\r\n" if "\r\n" in text else "\n"
        spans = [
            (field.node.start_mark.index, _end(field.node), _rendered(field.node, value, file, newline))
            for field, value in self._values.get(file, [])
        ]
        places = [match.start() for match in _SEPARATOR.finditer(text)]
        spans += [(*_around(document.start, places, len(text)), "") for document in removed]
        for start, end, replacement in sorted(spans, reverse=True):
            text = text[:start] + replacement + text[end:]
        if any(start == 0 for start, _, _ in spans):  # the first document is gone: no separator before the next one
            text = _BARE_SEPARATOR.sub("", text, count=1) if _BARE_SEPARATOR.match(text) else text
        for document in added:
            if text and not text.endswith(("\n", "\r")):
                text += newline
            block = _dumped(document, flow=None)
            text += ("---\n" + block if text else block).replace("\n", newline)
        return text


def _around(start: int, separators: list[int], length: int) -> tuple[int, int]:
    """From the separator before a document, or the beginning, to the next one, or the end."""
    before = max((place for place in separators if place <= start), default=0)
    after = min((place for place in separators if place > start), default=length)
    return before, after


def _end(node: yaml.Node) -> int:
    """Where a value ends. PyYAML lets a block reach up to whatever comes next, over comments."""
    if not isinstance(node, CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    if isinstance(node, MappingNode):
        return _end(node.value[-1][1])
    return _end(node.value[-1])


def _rendered(node: yaml.Node, value: Any, file: str, newline: str) -> str:
    if file.endswith(".json"):
        return json.dumps(value)
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style:
        return _dumped(value, flow=True).strip().removesuffix("...").strip()
    indent = newline + " " * node.start_mark.column
    return indent.join(_dumped(value, flow=None).splitlines())


def _dumped(value: Any, *, flow: bool | None) -> str:
    """YAML; with `flow` None, only what holds no other collection stands in one line."""
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=flow, width=_ENDLESS)
