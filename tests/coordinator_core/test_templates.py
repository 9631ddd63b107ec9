"""The template language: what it accepts, what it makes of it, and where it says no."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from confidential_bookstore.errors import TemplateError
from confidential_bookstore.secret import Secret
from coordinator.manifest.template import Namespace, TemplateKind, parse_template, template_data
from coordinator.secrets.value import SecretType, SecretValue

KEY = bytes(range(16))
CERTIFICATE = b"certificate " * 10


def secret(
    kind: SecretType, value: bytes, certificate: bytes | None = None, public: bytes | None = None
) -> SecretValue:
    return SecretValue(
        type=kind, certificate=certificate, private=Secret(value), public=Secret(value if public is None else public)
    )


SECRETS = {
    "key": secret(SecretType.SYMMETRIC_KEY, KEY),
    "tls": secret(SecretType.CERT_RSA, b"private", CERTIFICATE, b"public"),
    "note": secret(SecretType.PLAIN, b"hello 'world'"),
    "nul": secret(SecretType.PLAIN, b"a\0b"),
    "empty": secret(SecretType.PLAIN, b""),
    "ключ_1": secret(SecretType.SYMMETRIC_KEY, b"\xff"),
}
DATA = template_data(SECRETS, {"RootCA": secret(SecretType.CERT_ECDSA, b"", CERTIFICATE)})


def render(text: str, kind: TemplateKind = TemplateKind.FILE, data: Namespace = DATA) -> bytes:
    return parse_template(text).render(data, kind)


def refusal(text: str, kind: TemplateKind = TemplateKind.FILE) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(text, kind)
    return caught.value


def pem(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der).replace(b"\n", b"")
    lines = b"".join(body[i : i + 64] + b"\n" for i in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n".encode() + lines + f"-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("plain { text } }}", b"plain { text } }}"),
        ("{{ hex .Secrets.key }}", KEY.hex().encode()),
        ("{{hex .Secrets.key}}", KEY.hex().encode()),
        ("{{ hex .Secrets.key.Private }}", KEY.hex().encode()),
        ("{{ hex .Secrets.key.Public }}", KEY.hex().encode()),
        ("{{ hex .Secrets.tls }}", b"public".hex().encode()),
        ("{{ hex .Secrets.tls.Private }}", b"private".hex().encode()),
        ("{{ hex .Secrets.ключ_1 }}", b"ff"),
        ("{{ base64 .Secrets.key }}", base64.b64encode(KEY)),
        ("{{ raw .Secrets.key }}", KEY),
        ("{{ raw .Secrets.nul }}", b"a\0b"),
        ("{{ raw .Secrets.tls.Cert }}", CERTIFICATE),
        ("{{ pem .Secrets.tls.Cert }}", pem("CERTIFICATE", CERTIFICATE)),
        ("{{ pem .Secrets.tls.Private }}", pem("PRIVATE KEY", b"private")),
        ("{{ pem .Secrets.tls.Public }}", pem("PUBLIC KEY", b"public")),
        ("{{ .Secrets.key | hex }}", KEY.hex().encode()),
        ("{{ .Secrets.key|hex|js }}", KEY.hex().encode()),
        ("{{ (.Secrets).key | hex }}", KEY.hex().encode()),
        ("{{ (.Secrets.tls).Cert | raw }}", CERTIFICATE),
        ("{{ hex (.Secrets.key) }}", KEY.hex().encode()),
        ("{{ js (hex (.Secrets.key)) }}", KEY.hex().encode()),
        ("{{ js ((.Secrets.key | hex)) }}", KEY.hex().encode()),
        ("{{ .Previous.Secrets.key | hex }}", KEY.hex().encode()),
        ("{{\n\thex\n.Secrets.key\r\n}}", KEY.hex().encode()),
        ("a{{ hex .Secrets.key }}b{{ hex .Secrets.key }}c", b"a%bb%bc" % (KEY.hex().encode(), KEY.hex().encode())),
        ('{{ "text" }}', b"text"),
        ("{{ `raw \\n \r text` }}", b"raw \\n  text"),
        (r'{{ "\a\b\f\n\r\t\v\\\"" }}', b'\a\b\f\n\r\t\v\\"'),
        (r'{{ "\x41\xff\101\377\u00e4\U0001F600" }}', b"A\xffA\xff\xc3\xa4" + "😀".encode()),
        ('{{ "}}" }}', b"}}"),
        ('{{ "{{" }}', b"{{"),
        ("{{ 42 }}", b"42"),
        ("{{ -7 }}{{ +7 }}", b"-77"),
        ("{{ js 42 }}", b"42"),
    ],
)
def test_rendering(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {{- 1 }} b", b"a1 b"),
        ("a {{ 1 -}} b", b"a 1b"),
        ("a \r\n\t {{- 1 -}} \r\n\t b", b"a1b"),
        ("a {{- 1 -}} {{- 2 -}} b", b"a12b"),
        ("a\u00a0{{- 1 }}", "a\u00a01".encode()),  # only ASCII white space is trimmed
        ("{{-1}}", b"-1"),  # a number: the marker needs white space
        ("{{- -1 -}}", b"-1"),
        ("{{1\n-}} x", b"1x"),
        ("a {{/* comment */}} b", b"a  b"),
        ("a {{- /* comment }} */ -}} b", b"ab"),
        ("a {{- /**/}} b", b"a b"),
        ("a {{/* two\nlines */ -}} b{{1}}", b"a b1"),
    ],
)
def test_trim_markers_and_comments(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ("line\nend", rb"line\u000Aend"),
        ("a=b", rb"a\u003Db"),
        ("<script>&", rb"\u003Cscript\u003E\u0026"),
        ('it\'s "x" \\', rb"it\'s \"x\" \\"),
        ("\x00\x1f\x7f", b"\\u0000\\u001F\x7f"),
        ("äß中😀", "äß中😀".encode()),
        ("\u2028\u00a0\u200b\ufffd", b"\\u2028\\u00A0\\u200B" + "\ufffd".encode()),
        ("\U000e0001", rb"\uE0001"),
        ("a\udcffb", b"a\xffb"),  # a byte that is not UTF-8
        ("plain/text-+.", b"plain/text-+."),
    ],
)
def test_js_escapes_as_go_does(value, escaped):
    assert render(f"{{{{ js `{value}` }}}}") == escaped


def test_string_is_for_plain_secrets_in_variables():
    assert render("{{ string .Secrets.note }}!", TemplateKind.ENV) == b"hello 'world'!"
    assert "NUL byte" in str(refusal("{{ string .Secrets.nul }}", TemplateKind.ENV))
    assert "type plain" in str(refusal("{{ string .Secrets.key }}", TemplateKind.ENV))
    assert "type plain" in str(refusal("{{ string .Secrets.note.Private }}", TemplateKind.ENV))


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("{{ hex .Secrets.key", 1, 1, "action has no end"),
        ("{{", 1, 1, "action has no end"),
        ("ab\n\ncd {{ hex .Secrets.kez }}", 3, 11, "there is no secret 'kez'"),
        ("{{}}", 1, 3, "value or function expected"),
        ("{{- }}", 1, 5, "value or function expected"),
        ("{{ hex }}", 1, 4, "hex has 0 arguments, it takes one"),
        ("{{ hex .Secrets.key .Secrets.key }}", 1, 4, "hex has 2 arguments"),
        ("{{ .Secrets.key | hex .Secrets.key }}", 1, 19, "hex has 2 arguments"),
        ("{{ hex hex }}", 1, 8, "function as an argument"),
        ("{{ hexx .Secrets.key }}", 1, 4, "function 'hexx' does not exist"),
        ("{{ .Secrets.key hex }}", 1, 17, "argument for something that is not a function"),
        ('{{ "a" "b" }}', 1, 8, "argument for something that is not a function"),
        ('{{ hex"a" }}', 1, 7, "unexpected character"),
        ("{{ hex(.Secrets.key) }}", 1, 7, "white space expected before an argument"),
        ("{{ hex.Secrets.key }}", 1, 7, "white space expected before an argument"),
        ("{{ .Secrets.key | }}", 1, 19, "value or function expected"),
        ("{{ | hex }}", 1, 4, "value or function expected"),
        ("{{ .Secrets.key | .Secrets.key }}", 1, 19, "only a function can stand after a pipe"),
        ("{{ .Secrets.key | 3 }}", 1, 19, "only a function can stand after a pipe"),
        ("{{ hex (.Secrets.key }}", 1, 8, "parenthesis is not closed"),
        ("{{ hex .Secrets.key) }}", 1, 20, "unexpected ')'"),
        ("{{ () }}", 1, 5, "value or function expected"),
        ('{{ "a".b }}', 1, 4, "a literal has no fields"),
        ('{{ "open }}', 1, 4, "string has no end"),
        ('{{ "line\nend" }}', 1, 4, "string has no end"),
        ("{{ `open }}", 1, 4, "string has no end"),
        (r'{{ "\q" }}', 1, 4, "string has the unknown escape"),
        (r'{{ "\ud800" }}', 1, 4, "an escape that is not a character"),
        (r'{{ "\U00110000" }}', 1, 4, "an escape that is not a character"),
        (r'{{ "\400" }}', 1, 4, "unknown escape"),
        ("{{ 1.5 }}", 1, 4, "number '1.5' is not supported yet"),
        ("{{ 0x10 }}", 1, 4, "number '0x10' is not supported yet"),
        ("{{ 010 }}", 1, 4, "number '010' is not supported yet"),
        ("{{ 99999999999999999999 }}", 1, 4, "is not supported yet"),
        ("{{ 'a' }}", 1, 4, "character constants are not supported yet"),
        ("{{ $x := 1 }}", 1, 4, "variables are not supported yet"),
        ("{{ .Secrets.my-key }}", 1, 15, "unexpected character '-'"),
        ("{{ .Secrets. key }}", 1, 12, "argument for something"),
        ("{{ .Secrets..key }}", 1, 12, "argument for something"),
        ("{{ hex .Secrets.key # }}", 1, 21, "unexpected character '#'"),
        ("{{ hex .Secrets.key -}}x{{-}}", 1, 27, "unexpected character '-'"),
        ("{{/* open }}", 1, 1, "comment has no end"),
        ("{{/* a */ }}", 1, 8, "comment does not end right before"),
        ("{{ /* a */ }}", 1, 4, "unexpected character '/'"),
        ("{{ . }}", 1, 4, "names a group, not a value"),
        ("{{ .Secrets }}", 1, 4, "names a group, not a value"),
        ("{{ js .Secrets }}", 1, 4, "js: names a group"),
        ("{{ .Secrets.key }}", 1, 4, "a secret needs a function"),
        ("{{ .Secrets.key.Private }}", 1, 4, "a secret needs a function"),
        ("{{ js .Secrets.key }}", 1, 4, "js: a secret needs a function"),
        ("{{ hex 3 }}", 1, 4, "hex: needs a secret"),
        ('{{ pem "x" }}', 1, 4, "pem: needs Cert"),
        ("{{ pem (hex .Secrets.key) }}", 1, 4, "pem: needs Cert"),
        ("{{ pem .Secrets.key }}", 1, 4, "pem: needs Cert"),
        ("{{ pem .Secrets.key.Cert }}", 1, 4, "pem: the secret has nothing here"),
        ("{{ hex .Secrets.empty }}", 1, 4, "hex: the secret has nothing here"),
        ("{{ hex .Secrets.key.Foo }}", 1, 8, "a secret has no field 'Foo'"),
        ("{{ hex .Secrets.key.Cert.Raw }}", 1, 8, "there is no field 'Raw' here"),
        ("{{ (hex .Secrets.key).x }}", 1, 4, "there is no field 'x' here"),
        ("{{ hex .secrets.key }}", 1, 8, "there is no field 'secrets'"),
        ("{{ hex .Secrets.key.Type }}", 1, 8, 'field "Type" of a secret is not supported yet'),
        ("{{ string .Secrets.note }}", 1, 4, "string exists in Env only, not in Files"),
        ("half \ud800", 1, 6, "half of a surrogate pair"),
        ("\n\ud800", 2, 1, "half of a surrogate pair"),
    ],
)
def test_errors_name_line_and_column(text, line, column, message):
    error = refusal(text)
    assert message in str(error)
    assert (error.line, error.column) == (line, column)


_GO = """
    if else end range define template block break continue nil true false
    and call html index slice not len or print printf println urlquery eq ge gt le lt ne
"""


@pytest.mark.parametrize("word", _GO.split())
def test_the_rest_of_go_is_refused_by_name(word):
    for text in ("{{ %s .Secrets.key }}", "{{ 1 | %s }}"):
        assert f'"{word}" is not supported yet' in str(refusal(text % word))


def test_an_error_can_be_given_its_path():
    error = refusal("{{ hex .Secrets.kez }}").at("Marbles.a.Parameters.Env.X")
    assert str(error) == "Marbles.a.Parameters.Env.X: line 1, column 8: there is no secret 'kez'"
    assert error.hint == 'did you mean "key"?'


def test_references():
    template = parse_template(
        "{{ hex .Secrets.a }}{{ js (pem .Secrets.b.Cert) }}{{ .Previous.Secrets.c | hex }}{{ (.Secrets).d | hex }}"
        '{{ pem .MarbleRun.RootCA.Cert }}{{ "Secrets" }}{{ hex (.Secrets.e).Cert }}{{/* .Secrets.f */}}'
        "{{ (hex .Secrets.g).Secrets.h }}"
    )
    assert template.references() == {"a", "b", "c", "d", "e", "g"}


def test_no_secret_is_in_a_repr():
    template = parse_template("{{ hex .Secrets.key }}")
    assert KEY.hex() not in repr(template)
    assert repr(SECRETS["note"]).count("Secret(***)") == 2
    assert "hello" not in repr(DATA)


def test_an_action_has_a_bounded_number_of_parts():
    assert render("{{ 1" + " | js" * 49 + " }}") == b"1"
    assert "more than 50 parts" in str(refusal("{{ 1" + " | js" * 50 + " }}"))
    assert "more than 50 parts" in str(refusal("{{ " + "(" * 100_000))


def test_output_is_bounded():
    doubling = "{{ `" + "\\" * 64 + "`" + " | js" * 30 + " }}"
    assert "more than 4194304 bytes" in str(refusal(doubling))
    large = template_data({"key": secret(SecretType.SYMMETRIC_KEY, b"k" * 1_500_000)}, {})
    assert len(render("{{ hex .Secrets.key }}", data=large)) == 3_000_000
    with pytest.raises(TemplateError, match="more than 4194304 bytes"):
        render("{{ hex .Secrets.key }}" * 2, data=large)


def test_long_templates_take_linear_time():
    began = time.process_time()
    assert len(render("x\n{{ 1 -}}\n" * 50_000)) == 50_000 * 3
    refusal("{{ 1 }}" + '"' * 500_000 + "{{ " + '"\\"' * 100_000)
    assert time.process_time() - began < 10


literal_text = st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(lambda text: "{{" not in text)


@given(literal_text)
def test_text_passes_through(text):
    assert render(text) == text.encode()


@given(st.binary().filter(lambda data: b"{{" not in data))
def test_bytes_pass_through(data):
    assert render(data.decode(errors="surrogateescape")) == data


@given(literal_text, literal_text)
def test_text_around_an_action_passes_through(before, after):
    if before.endswith("{"):
        before += " "
    assert render(f"{before}{{{{ hex .Secrets.key }}}}{after}") == before.encode() + KEY.hex().encode() + after.encode()


@given(st.text())
def test_go_strings_pass_through_in_backquotes(text):
    inside = text.replace("`", "").replace("\r", "")
    assert render(f"{{{{ `{inside}` }}}}") == inside.encode()


fragments = st.sampled_from(
    [
        *"{}().|-+\"`'$:=/*\\ \n\t",
        *("{{", "}}", "{{- ", " -}}", "/*", "*/", "{{/*", "*/}}", '"x"', "`y`", "\\x41", "7", "0x1", "é", "\udcff"),
        *(".Secrets", ".key", ".tls", ".Cert", ".Private", ".MarbleRun", ".RootCA", ".Previous"),
        *(" hex", " pem", " js", " raw", " string", " base64", " if", " printf", " nothing"),
    ]
)


@given(st.lists(fragments, max_size=40).map("".join) | st.text(), st.sampled_from(TemplateKind))
@example("{{ js }}", TemplateKind.FILE)
def test_nothing_but_bytes_or_a_template_error(text, kind):
    outcome = render_or_error(text, kind)
    if isinstance(outcome, TemplateError):
        lines = text.split("\n")
        assert 1 <= outcome.line <= len(lines)
        assert 1 <= outcome.column <= len(lines[outcome.line - 1]) + 1


@given(st.lists(fragments, max_size=25).map("".join), st.sampled_from(TemplateKind))
def test_actions_give_nothing_but_bytes_or_a_template_error(inside, kind):
    assert isinstance(render_or_error(f"{{{{ {inside} }}}}", kind), bytes | TemplateError)


def render_or_error(text: str, kind: TemplateKind) -> bytes | TemplateError:
    try:
        return render(text, kind)
    except TemplateError as error:
        return error
