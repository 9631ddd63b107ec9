"""The text of a template to its tree: control structures, whose nesting is kept in a list instead of by recursion."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.manifest.template.actions import KEYWORDS, ActionParser, Variables
from coordinator.manifest.template.lexer import Action, Lexer, TokenKind
from coordinator.manifest.template.literals import unquote
from coordinator.manifest.template.nodes import (
    Branch,
    Break,
    Call,
    Choice,
    Continue,
    Definitions,
    Invocation,
    Node,
    Output,
    Pipeline,
    Position,
    Range,
    Text,
)

MAX_LENGTH = 4 * 1024 * 1024  # characters of a template
MAX_NESTING = 100  # control structures inside of each other

_SPACES = b" \t\r\n\v\f"  # a definition of nothing else may be given again


def parse(text: str) -> Definitions:
    """Parse a whole template, in time that is linear in its length.

    Raises:
        TemplateError: with line and column.
    """
    if len(text) > MAX_LENGTH:
        raise Position(1, 1).error(f"template is longer than {MAX_LENGTH} characters")
    parser = _Parser()
    for part in Lexer(text):
        if isinstance(part, Text):
            parser.open[-1].body.append(part)
        else:
            parser.action(part)
    return parser.finish()


@dataclass(slots=True)
class _Open:
    """A control structure whose `end` has not come yet; the first one is the template itself."""

    keyword: str
    position: Position
    variables: Variables
    mark: int = 0
    name: bytes = b""
    pipeline: Pipeline | None = None
    branches: list[Branch] = field(default_factory=list)
    main: list[Node] = field(default_factory=list)  # the body of a range whose else has come
    body: list[Node] = field(default_factory=list)
    has_else: bool = False


class _Parser:
    def __init__(self) -> None:
        self.open = [_Open("template", Position(1, 1), Variables())]
        self._templates: dict[bytes, tuple[Node, ...]] = {}
        self._final: set[bytes] = set()  # templates that are more than white space
        self._calls: list[Call] = []

    def finish(self) -> Definitions:
        if len(self.open) > 1:
            raise self.open[-1].position.error(f'"{self.open[-1].keyword}" has no end', hint="close it with {{end}}")
        return Definitions(tuple(self.open[0].body), self._templates, tuple(self._calls))

    def action(self, action: Action) -> None:
        block = self.open[-1]
        parser = ActionParser(action, block.variables, self._calls)
        first = parser.next
        if first.kind is not TokenKind.WORD or first.text not in KEYWORDS:
            block.body.append(Output(parser.pipeline("command")))
            return
        parser.take()
        match first.text:
            case "if" | "with" | "range":
                mark = block.variables.mark()
                pipeline = parser.pipeline(first.text)
                self._enter(_Open(first.text, first.position, block.variables, mark, pipeline=pipeline))
            case "else":
                self._else(parser, first.position)
            case "end":
                parser.end("end")
                self._end(first.position)
            case "break" | "continue":
                parser.end(first.text)
                self._check_in_range(first.text, first.position)
                block.body.append((Break if first.text == "break" else Continue)(first.position))
            case "template":
                name = _name(parser, "template")
                pipeline_or_none = None if parser.next.kind is TokenKind.END else parser.pipeline("template")
                block.body.append(Invocation(name, pipeline_or_none, first.position))
            case "block":
                name = _name(parser, "block")
                pipeline = parser.pipeline("block")
                block.body.append(Invocation(name, pipeline, first.position))
                self._enter(_Open("block", first.position, Variables(), name=name))
            case _:
                if len(self.open) > 1:
                    raise first.position.error('unexpected "define": it does not stand inside of anything else')
                name = _name(parser, "define")
                parser.end("define")
                self._enter(_Open("define", first.position, Variables(), name=name))

    def _enter(self, block: _Open) -> None:
        if len(self.open) > MAX_NESTING:
            raise block.position.error(f"control structures nest deeper than {MAX_NESTING}")
        self.open.append(block)

    def _else(self, parser: ActionParser, position: Position) -> None:
        block = self.open[-1]
        if block.pipeline is None or block.has_else:
            raise position.error("unexpected {{else}}")
        if block.keyword == "range":
            block.main, block.body, block.has_else = block.body, [], True
            parser.end("else")
            return
        block.branches.append(Branch(block.pipeline, tuple(block.body)))
        block.body = []
        if parser.next.kind is TokenKind.WORD and parser.next.text == block.keyword:
            parser.take()
            block.pipeline = parser.pipeline(block.keyword)
        else:
            parser.end("else")
            block.has_else = True

    def _end(self, position: Position) -> None:
        if len(self.open) == 1:
            raise position.error("unexpected {{end}}")
        block = self.open.pop()
        body = tuple(block.body)
        if block.pipeline is None:
            self._define(block, body)
            return
        block.variables.forget(block.mark)
        if block.keyword == "range":
            main, otherwise = (tuple(block.main), body) if block.has_else else (body, ())
            self.open[-1].body.append(Range(block.pipeline, main, otherwise))
            return
        if not block.has_else:
            block.branches.append(Branch(block.pipeline, body))
        otherwise = body if block.has_else else ()
        self.open[-1].body.append(Choice(tuple(block.branches), otherwise, moves_dot=block.keyword == "with"))

    def _define(self, block: _Open, body: tuple[Node, ...]) -> None:
        is_empty = all(isinstance(node, Text) and not node.content.strip(_SPACES) for node in body)
        if block.name not in self._final:
            self._templates[block.name] = body
        elif not is_empty:
            name = block.name[:80].decode(errors="replace")
            raise block.position.error(f"multiple definition of template {name!a}")
        if not is_empty:
            self._final.add(block.name)

    def _check_in_range(self, keyword: str, position: Position) -> None:
        for block in reversed(self.open):
            if block.keyword == "range" and not block.has_else:
                return
            if block.pipeline is None:
                break
        raise position.error(f"{{{{{keyword}}}}} outside {{{{range}}}}")


def _name(parser: ActionParser, context: str) -> bytes:
    token = parser.take()
    if token.kind is not TokenKind.STRING:
        raise token.position.error(f"name of a template expected in {context}", hint='for example: template "name" .')
    return unquote(token.text, token.position)
