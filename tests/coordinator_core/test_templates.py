"""Templates from end to end: what they show of secrets, where white space goes, and where they say no."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from template_material import CERTIFICATE, DATA, KEY, MARBLERUN, SECRETS, refusal, secret
from template_material import render as render_go

from coordinator.manifest.template import Namespace, TemplateKind, parse_template, template_data
from coordinator.secret_value import SecretType

MORE = template_data(
    SECRETS | {"nul": secret(SecretType.PLAIN, b"a\0b"), "ключ_1": secret(SecretType.SYMMETRIC_KEY, b"\xff")},
    MARBLERUN,
    {"key": secret(SecretType.SYMMETRIC_KEY, b"old")},
)


def render(text: str, kind: TemplateKind = TemplateKind.FILE, data: Namespace = MORE) -> bytes:
    return render_go(text, kind, data)


def pem(label: str, der: bytes) -> bytes:
    body = base64.encodebytes(der).replace(b"\n", b"")
    lines = b"".join(body[i : i + 64] + b"\n" for i in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n".encode() + lines + f"-----END {label}-----\n".encode()


def js_of(text: bytes) -> bytes:
    return text.replace(b"\n", b"\\u000A").replace(b"=", b"\\u003D")


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
        ("{{ .Previous.Secrets.key | hex }}", b"old".hex().encode()),
        ('{{ hex (index .Secrets "a-b") }}', b"ff"),
        ("{{ $.Secrets.key | hex }}", KEY.hex().encode()),
        ("{{ with .Secrets.key }}{{ hex . }}{{ end }}", KEY.hex().encode()),
        ('{{ printf "%s" .Secrets.note.Private }}', b"hello 'world'"),
        ('{{ printf "%x" .Secrets.key.Public }}', KEY.hex().encode()),
        ("{{ js (pem .MarbleRun.RootCA.Cert) }}", js_of(pem("CERTIFICATE", CERTIFICATE))),
        ("{{ .Secrets.nothing }}{{ .Secrets.nothing.Cert }}", b"<no value><no value>"),
        ("{{ .Secrets.tls.Type }} {{ .Secrets.tls.Size }} {{ .Secrets.tls.ValidFor }}", b"cert-rsa 2048 14"),
        ("{{ .Secrets.key.Shared }} {{ .Secrets.key.UserDefined }}", b"true false"),
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
    assert "null bytes" in str(refusal("{{ string .Secrets.nul }}", TemplateKind.ENV, MORE))
    assert "type plain" in str(refusal("{{ string .Secrets.key }}", TemplateKind.ENV))
    assert "type plain" in str(refusal("{{ string .Secrets.note.Private }}", TemplateKind.ENV))
    assert "does not exist" in str(refusal("{{ string .Secrets.nothing }}", TemplateKind.ENV))
    assert "empty value" in str(refusal("{{ string .Secrets.empty }}", TemplateKind.ENV))


@pytest.mark.parametrize(
    "branch", ["%s", "{{ if false }}%s{{ end }}", '{{ define "x" }}%s{{ end }}', "{{ print (%s) }}"]
)
def test_functions_of_the_other_kind_are_not_defined_even_where_they_are_not_reached(branch):
    raw, string = (branch % action for action in ("{{ raw .Secrets.note }}", "{{ string .Secrets.note }}"))
    if "print" in branch:
        raw, string = (text.replace("({{", "(").replace("}})", ")") for text in (raw, string))
    render(raw, TemplateKind.FILE)
    render(string, TemplateKind.ENV)
    assert "function 'raw' not defined" in str(refusal(raw, TemplateKind.ENV))
    assert "function 'string' not defined" in str(refusal(string, TemplateKind.FILE))


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("{{ hex .Secrets.key", 1, 1, "action has no end"),
        ("{{", 1, 1, "action has no end"),
        ("ab\n\ncd {{ hex .Secrets.kez }}", 3, 7, "hex: secret does not exist"),
        ("{{}}", 1, 3, "missing value for command"),
        ("{{- }}", 1, 5, "missing value for command"),
        ("{{ hex }}", 1, 4, "wrong number of args for hex: want 1 got 0"),
        ("{{ hex .Secrets.key .Secrets.key }}", 1, 4, "wrong number of args for hex: want 1 got 2"),
        ("{{ .Secrets.key | hex .Secrets.key }}", 1, 19, "wrong number of args for hex: want 1 got 2"),
        ("{{ hex hex }}", 1, 8, "wrong number of args for hex: want 1 got 0"),
        ("{{ hexx .Secrets.key }}", 1, 4, "function 'hexx' not defined"),
        ("{{ .Secrets.key hex }}", 1, 4, "can't give argument to non-function '.Secrets'"),
        ('{{ "a" "b" }}', 1, 4, "can't give argument to non-function '\"a\"'"),
        ('{{ hex"a" }}', 1, 7, "unexpected character '\"'"),
        ("{{ hex(.Secrets.key) }}", 1, 7, "white space expected before an argument"),
        ("{{ | hex }}", 1, 4, "unexpected '|' in command"),
        ("{{ .Secrets.key || hex }}", 1, 18, "unexpected '|' in command"),
        ("{{ .Secrets.key | .Secrets.key }}", 1, 19, "can't give argument to non-function '.Secrets'"),
        ("{{ .Secrets.key | 3 }}", 1, 19, "can't give argument to non-function '3'"),
        ("{{ nil }}", 1, 4, "nil is not a command"),
        ("{{ hex (.Secrets.key }}", 1, 8, "parenthesis is not closed"),
        ("{{ hex .Secrets.key) }}", 1, 20, "unexpected ')' in command"),
        ("{{ () }}", 1, 5, "missing value for parenthesized pipeline"),
        ('{{ "a".b }}', 1, 4, "unexpected '.' after term '\"a\"'"),
        ('{{ "open }}', 1, 4, "string has no end"),
        ('{{ "line\nend" }}', 1, 4, "string has no end"),
        ("{{ `open }}", 1, 4, "string has no end"),
        ("{{ 'open }}", 1, 4, "character constant has no end"),
        ('{{ "\\q" }}', 1, 4, "string has the unknown escape '\\\\q'"),
        ('{{ "\\ud800" }}', 1, 4, "there is an escape that is not a character"),
        ('{{ "\\U00110000" }}', 1, 4, "there is an escape that is not a character"),
        ('{{ "\\400" }}', 1, 4, "string has the unknown escape '\\\\4'"),
        ("{{ 1i }}", 1, 4, "bad number syntax: '1i'"),
        ("{{ 1x }}", 1, 4, "bad number syntax: '1x'"),
        ("{{ 99999999999999999999 }}", 1, 4, "99999999999999999999 overflows int"),
        ("{{ $x }}", 1, 4, "undefined variable '$x'"),
        ("{{ $x = 1 }}", 1, 4, "undefined variable '$x'"),
        ("{{ $x, $y := 1 }}", 1, 6, "too many declarations in command"),
        ("{{ .Secrets.my-key }}", 1, 15, "unexpected character '-'"),
        ("{{ .Secrets. key }}", 1, 12, "white space expected before an argument"),
        ("{{ .Secrets..key }}", 1, 12, "white space expected before an argument"),
        ("{{ hex .Secrets.key # }}", 1, 21, "unexpected character '#'"),
        ("{{ hex .Secrets.key -}}x{{-}}", 1, 27, "unexpected character '-'"),
        ("{{/* open }}", 1, 1, "comment has no end"),
        ("{{/* a */ }}", 1, 8, "comment does not end right before the closing braces"),
        ("{{ /* a */ }}", 1, 4, "unexpected character '/'"),
        ("{{ . }}", 1, 4, "a secret is not printed as it is: it needs a function"),
        ("{{ .Secrets }}", 1, 4, "a secret is not printed as it is: it needs a function"),
        ("{{ .Secrets.key }}", 1, 4, "a secret is not printed as it is: it needs a function"),
        ("{{ .Secrets.key.Private }}", 1, 4, "a secret is not printed as it is: it needs a function"),
        ("{{ .Secrets.tls.Cert }}", 1, 4, "a secret is not printed as it is: it needs a function"),
        ("{{ js .Secrets }}", 1, 4, "js: a secret is not printed as it is: it needs a function"),
        ("{{ js .Secrets.key }}", 1, 4, "js: a secret is not printed as it is: it needs a function"),
        ("{{ print .Secrets.key.Private }}", 1, 4, "print: a secret is not printed as it is: it needs a function"),
        (
            '{{ printf "%v" .Secrets.key.Private }}',
            1,
            4,
            "printf: a secret is not printed as it is: it needs a function",
        ),
        (
            '{{ printf "%d" .Secrets.key.Private }}',
            1,
            4,
            "printf: a secret is not printed as it is: it needs a function",
        ),
        ('{{ printf "%s" .Secrets.key }}', 1, 4, "printf: a secret is not printed as it is: it needs a function"),
        ('{{ printf "%x" .Secrets.tls.Cert }}', 1, 4, "printf: a secret is not printed as it is: it needs a function"),
        ('{{ printf "" .Secrets }}', 1, 4, "printf: a secret is not printed as it is: it needs a function"),
        ('{{ printf "%p" 1 }}', 1, 4, "printf: verb %p is not supported"),
        ("{{ hex 3 }}", 1, 4, "hex: invalid secret type"),
        ("{{ hex .Secrets }}", 1, 4, "hex: invalid secret type"),
        ('{{ pem "x" }}', 1, 4, "pem: invalid secret type for pem encoding"),
        ("{{ pem (hex .Secrets.key) }}", 1, 4, "pem: invalid secret type for pem encoding"),
        ("{{ pem .Secrets.key }}", 1, 4, "pem: invalid secret type for pem encoding"),
        ("{{ pem .Secrets.nothing }}", 1, 4, "pem: secret does not exist"),
        ("{{ pem .Secrets.key.Cert }}", 1, 4, "pem: tried to parse secret with empty value"),
        ("{{ hex .Secrets.empty }}", 1, 4, "hex: tried to parse secret with empty value"),
        ("{{ base64 .Secrets.nothing.Private }}", 1, 4, "base64: secret does not exist"),
        ("{{ raw nil }}", 1, 4, "raw: secret does not exist"),
        ("{{ hex .Secrets.key.Foo }}", 1, 8, "a secret has no field 'Foo'"),
        ("{{ hex .Secrets.key.Cert.Raw }}", 1, 8, "can't evaluate field 'Raw' in type manifest.Certificate"),
        ("{{ (hex .Secrets.key).x }}", 1, 4, "can't evaluate field 'x' in type string"),
        ("{{ hex .secrets.key }}", 1, 8, "there is no field 'secrets'"),
        ("{{ .MarbleRun.Unknown.Cert }}", 1, 4, "there is no field 'Unknown'"),
        ("{{ .Previous.MarbleRun }}", 1, 4, "there is no field 'MarbleRun'"),
        ("{{ if 1 }}", 1, 4, '"if" has no end'),
        ("{{ if 1 }}\n{{ range 2 }}{{ end }}", 1, 4, '"if" has no end'),
        ("{{ end }}", 1, 4, "unexpected {{end}}"),
        ("{{ else }}", 1, 4, "unexpected {{else}}"),
        ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", 1, 24, "unexpected {{else}}"),
        ("{{ break }}", 1, 4, "{{break}} outside {{range}}"),
        (
            '{{ if 1 }}{{ define "x" }}{{ end }}{{ end }}',
            1,
            14,
            'unexpected "define": it does not stand inside of anything else',
        ),
        ('{{ define "x" }}1{{ end }}{{ define "x" }}2{{ end }}', 1, 30, "multiple definition of template 'x'"),
        ('{{ template "x" }}', 1, 4, "template 'x' not defined"),
        ("{{ template x }}", 1, 13, "name of a template expected in template"),
        ('{{ range "abc" }}{{ end }}', 1, 10, "range can't iterate over a value of type string"),
        ("half \ud800", 1, 6, "half of a surrogate pair"),
        ("\n\ud800", 2, 1, "half of a surrogate pair"),
    ],
)
def test_errors_name_line_and_column(text, line, column, message):
    error = refusal(text)
    assert message in str(error)
    assert (error.line, error.column) == (line, column)


def test_an_error_can_be_given_its_path():
    error = refusal("{{ hex .Secrets.kez }}").at("Marbles.a.Parameters.Env.X")
    assert str(error) == "Marbles.a.Parameters.Env.X: line 1, column 4: hex: secret does not exist"
    assert error.hint == 'there is no secret "kez"'


def test_references():
    template = parse_template(
        "{{ hex .Secrets.a }}{{ js (pem .Secrets.b.Cert) }}{{ .Previous.Secrets.c | hex }}{{ (.Secrets).d | hex }}"
        '{{ pem .MarbleRun.RootCA.Cert }}{{ "Secrets" }}{{ hex (.Secrets.e).Cert }}{{/* .Secrets.f */}}'
        '{{ (hex .Secrets.g).Secrets.h }}{{ index .Secrets "i" }}{{ if .Secrets.j }}{{ $.Secrets.k }}{{ else }}'
        "{{ with $x := .Secrets.l }}{{ end }}{{ end }}{{ range .Secrets.m.Private }}{{ $.Secrets.n }}{{ end }}"
        '{{ define "x" }}{{ .Secrets.o }}{{ end }}{{ template "x" .Secrets.p }}{{ index $ "q" }}'
    )
    assert template.references() == {*"abcdegijklmnop"}


def test_no_secret_is_in_a_repr():
    template = parse_template("{{ hex .Secrets.key }}")
    assert KEY.hex() not in repr(template)
    assert repr(SECRETS["note"]).count("Secret(***)") == 2
    assert "hello" not in repr(DATA)


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
