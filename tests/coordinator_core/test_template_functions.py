"""Go's builtin functions: what they give, and what they refuse."""

from __future__ import annotations

import pytest
from template_material import refusal, render


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{and 1 0}}", b"0"),
        ("{{and 1 2}}", b"2"),
        ('{{and "" 1}}', b""),
        ("{{or 0 1}}", b"1"),
        ('{{or 0 ""}}', b""),
        ("{{or 1 2}}", b"1"),
        ("{{and 1}}", b"1"),
        ("{{1 | and 2}}", b"1"),
        ("{{0 | and 2}}", b"0"),
        ("{{1 | or 0}}", b"1"),
        ("{{not 1}}", b"false"),
        ("{{not 0}}", b"true"),
        ("{{and true .Secrets.nope}}", b"<no value>"),
        ('{{or .Secrets.nope "x"}}', b"x"),
        ("{{and nil 1}}", b"<no value>"),
        ("{{or nil nil}}", b"<no value>"),
        ("{{not nil}}", b"true"),
        ("{{or .Secrets.nope .Secrets.nope}}", b"<no value>"),
        ("{{and false (index 1 2)}}", b"false"),
        ("{{or 1 (index 1 2)}}", b"1"),
        ("{{not .Secrets.nope}}", b"true"),
        ("{{not .Secrets.key}}", b"false"),
    ],
)
def test_logic(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{and}}", "wrong number of args for and: want at least 1 got 0"),
        ("{{or}}", "wrong number of args for or: want at least 1 got 0"),
        ("{{not}}", "wrong number of args for not: want 1 got 0"),
        ("{{not 1 2}}", "wrong number of args for not: want 1 got 2"),
        ("{{and 1 (index 1 2)}}", "index: can't index item of type int"),
    ],
)
def test_refused_logic(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{len "abc"}}', b"3"),
        ('{{len "ä"}}', b"2"),
        ("{{len .Secrets}}", b"5"),
        ("{{len .Secrets.key.Private}}", b"16"),
        ('{{"ab" | len}}', b"2"),
    ],
)
def test_len(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{len 3}}", "len: len of type int"),
        ("{{len nil}}", "len: len of type <nil>"),
        ("{{len .Secrets.nope}}", "len: len of type <nil>"),
        ("{{len .MarbleRun}}", "len: len of type struct"),
        ("{{len .Secrets.key}}", "len: len of type manifest.Secret"),
        ("{{len .Secrets.key.Cert}}", "len: len of type manifest.Certificate"),
    ],
)
def test_refused_len(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{index "abc" 1}}', b"98"),
        ('{{(index .Secrets "a-b").Size}}', b"8"),
        ('{{hex (index .Secrets "a-b")}}', b"ff"),
        ('{{(index .Secrets "nope").Type}}', b""),
        ('{{(index .Secrets "nope").Size}}', b"0"),
        ("{{index .Secrets.key.Private 3}}", b"3"),
        ('{{index "abc"}}', b"abc"),
        ('{{1 | index "abc"}}', b"98"),
        ('{{index "abc" .Secrets.empty.Size}}', b"97"),
    ],
)
def test_index(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{index "abc" 3}}', "index: index out of range"),
        ('{{index "abc" 4}}', "index: index out of range"),
        ('{{index "abc" -1}}', "index: index out of range"),
        ('{{index .Secrets "key"}}', "a secret is not printed as it is: it needs a function"),
        ('{{hex (index .Secrets "nope")}}', "hex: tried to parse secret with empty value"),
        ("{{index .Secrets 1}}", "index: value has type int; should be string"),
        ("{{index .Secrets.key.Private 16}}", "index: index out of range"),
        ("{{index 3 1}}", "index: can't index item of type int"),
        ("{{index nil 1}}", "index: index of untyped nil"),
        ("{{index .Secrets.nope 1}}", "index: index of untyped nil"),
        ("{{index .Secrets nil}}", "index: value has type <nil>; should be string"),
        ('{{index "abc" nil}}', "index: cannot index slice/array with nil"),
        ('{{index "abc" 1.0}}', "index: cannot index slice/array with type float64"),
        ('{{index "abc" true}}', "index: cannot index slice/array with type bool"),
        ("{{index \"abc\" 'a'}}", "index: index out of range"),
        ('{{index "abc" 1 1}}', "index: can't index item of type uint8"),
        ("{{index .Secrets .Secrets.nope}}", "index: value has type <nil>; should be string"),
        ('{{index .Secrets.key "Size"}}', "index: can't index item of type manifest.Secret"),
    ],
)
def test_refused_index(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{slice "abcd" 1}}', b"bcd"),
        ('{{slice "abcd" 1 3}}', b"bc"),
        ('{{slice "abcd"}}', b"abcd"),
        ('{{slice "abcd" 4}}', b""),
        ("{{hex (slice .Secrets.key.Private 1 3)}}", b"0102"),
        ("{{hex (slice .Secrets.key.Private 1 3 5)}}", b"0102"),
    ],
)
def test_slice(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{slice "abcd" 5}}', "slice: index out of range"),
        ('{{slice "abcd" 3 1}}', "slice: invalid slice index: the first is larger than the second"),
        ('{{slice "abcd" 1 2 3}}', "slice: cannot 3-index slice a string"),
        ("{{slice .Secrets.key.Private 1 3 2}}", "slice: invalid slice index: the first is larger than the second"),
        ("{{slice 3}}", "slice: can't slice item of type int"),
        ("{{slice nil}}", "slice: slice of untyped nil"),
        ("{{slice .Secrets}}", "slice: can't slice item of type map[string]manifest.Secret"),
        ('{{slice "abcd" 1 2 3 4}}', "slice: too many slice indexes: 4"),
        ('{{slice "abc" -1}}', "slice: index out of range"),
        ('{{slice "abc" nil}}', "slice: cannot index slice/array with nil"),
        ('{{slice "abc" "a"}}', "slice: cannot index slice/array with type string"),
        ("{{hex (slice .Secrets.key.Private 3 3)}}", "hex: tried to parse secret with empty value"),
    ],
)
def test_refused_slice(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{print}}", b""),
        ("{{print 1 2}}", b"1 2"),
        ('{{print 1 "a" 2 3}}', b"1a2 3"),
        ('{{print "a" "b"}}', b"ab"),
        ("{{print nil}}", b"<nil>"),
        ("{{print .Secrets.nope 1}}", b"<nil> 1"),
        ('{{print true 1.5 "x"}}', b"true 1.5x"),
        ("{{println}}", b"\n"),
        ('{{println 1 "a" 2}}', b"1 a 2\n"),
        ("{{print .Secrets.key.Size .Secrets.key.Shared}}", b"128 true"),
        ("{{.Secrets.key.Size}}", b"128"),
        ("{{.Secrets.key.Type}}", b"symmetric-key"),
        ("{{.Secrets.key.Shared}}", b"true"),
        ("{{.Secrets.tls.ValidFor}}", b"14"),
        ("{{.Secrets.note.UserDefined}}", b"true"),
        ("{{.Secrets.nope}}", b"<no value>"),
        ("{{.Secrets.nope.Cert}}", b"<no value>"),
        ("{{print print}}", b""),
        ("{{print (print 1) 2}}", b"12"),
        ('{{"a" | print 1 2}}', b"1 2a"),
        ("{{1 | print}}", b"1"),
    ],
)
def test_print(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.nope}}", "there is no field 'nope'"),
        ("{{.MarbleRun.nope}}", "there is no field 'nope'"),
        ("{{.Secrets.key.nope}}", "a secret has no field 'nope'"),
        ("{{.Secrets.key.Size.x}}", "can't evaluate field 'x' in type uint"),
        ("{{print.x}}", "can't evaluate field 'x' in type string"),
        ("{{print 1 .}}", "print: a secret is not printed as it is: it needs a function"),
        ("{{. | print}}", "print: a secret is not printed as it is: it needs a function"),
    ],
)
def test_refused_print(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{html "<a href=\'x\'>\\"&\\x00"}}', b"&lt;a href=&#39;x&#39;&gt;&#34;&amp;\xef\xbf\xbd"),
        (
            '{{js "it\'s \\"x\\" <y> & = \\\\ \\n \\u2028 é \\xff"}}',
            b'it\\\'s \\"x\\" \\u003Cy\\u003E \\u0026 \\u003D \\\\ \\u000A \\u2028 \xc3\xa9 \xff',
        ),
        ('{{urlquery "a b&c=d/é+~-_.*!\\x00"}}', b"a+b%26c%3Dd%2F%C3%A9%2B~-_.%2A%21%00"),
        ('{{html 1 2 "a"}}', b"1 2a"),
        ("{{html .Secrets.nope}}", b"&lt;no value&gt;"),
        ("{{html nil}}", b"&lt;no value&gt;"),
        ("{{html}}", b""),
        ("{{js}}", b""),
        ("{{urlquery 1 2}}", b"1+2"),
        ("{{html 1 .Secrets.nope 2}}", b"1&lt;no value&gt;2"),
        ('{{"<" | html}}', b"&lt;"),
        ('{{html "<" | html}}', b"&amp;lt;"),
        ('{{urlquery "\\xff"}}', b"%FF"),
        ('{{html "\\xff<"}}', b"\xff&lt;"),
        ("{{js 1.5}}", b"1.5"),
        ('{{js "\\x7f\\x01\\u00a0\\U000e0001"}}', b"\x7f\\u0001\\u00A0\\uE0001"),
    ],
)
def test_escapes(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{call}}", "wrong number of args for call: want at least 1 got 0"),
        ("{{call 1}}", "call: non-function of type int"),
        ("{{call nil}}", "call: non-function of type <nil>"),
        ("{{call print}}", "call: non-function of type string"),
        ("{{call .Secrets.nope}}", "call: non-function of type <nil>"),
        ('{{call "x" 1}}', "call: non-function of type string"),
    ],
)
def test_refused_call(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{eq 1 1}}", b"true"),
        ("{{eq 1 2}}", b"false"),
        ("{{eq 1 2 1}}", b"true"),
        ('{{eq "a" "a"}}', b"true"),
        ("{{eq 1.0 1.0}}", b"true"),
        ("{{eq true true}}", b"true"),
        ("{{eq nil nil}}", b"true"),
        ("{{eq nil 1}}", b"false"),
        ("{{eq 1 nil}}", b"false"),
        ("{{eq .Secrets.nope nil}}", b"true"),
        ("{{eq .Secrets nil}}", b"false"),
        ("{{eq .Secrets.key nil}}", b"false"),
        ("{{eq .Secrets.key.Private nil}}", b"false"),
        ("{{eq .Secrets.key.Size 128}}", b"true"),
        ("{{eq 128 .Secrets.key.Size}}", b"true"),
        ("{{1 | eq 1}}", b"true"),
        ('{{eq 1 1 "a"}}', b"true"),
        ("{{ne 1 2}}", b"true"),
        ("{{ne 1 1}}", b"false"),
        ("{{ne nil nil}}", b"false"),
        ("{{lt 1 2}}", b"true"),
        ("{{lt 2 1}}", b"false"),
        ("{{lt 1.5 2.5}}", b"true"),
        ('{{lt "a" "b"}}', b"true"),
        ("{{le 1 1}}", b"true"),
        ("{{le 2 1}}", b"false"),
        ("{{gt 2 1}}", b"true"),
        ("{{gt 1 1}}", b"false"),
        ("{{ge 1 1}}", b"true"),
        ("{{ge 0 1}}", b"false"),
        ("{{lt 1 .Secrets.key.Size}}", b"true"),
        ("{{gt .Secrets.key.Size -1}}", b"true"),
        ('{{eq (index "abc" 0) 97}}', b"true"),
        ('{{eq .Secrets.key.Type "symmetric-key"}}', b"true"),
        ("{{eq 'a' 97}}", b"true"),
        ("{{eq nil .Secrets.key.Private}}", b"false"),
    ],
)
def test_comparisons(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{eq 1 1.0}}", "eq: incompatible types for comparison"),
        ("{{eq true 1}}", "eq: incompatible types for comparison"),
        ("{{eq .Secrets.key .Secrets.key}}", "eq: non-comparable types manifest.Secret and manifest.Secret"),
        ("{{eq .Secrets.key 1}}", "eq: incompatible types for comparison"),
        (
            "{{eq .Secrets .Secrets}}",
            "eq: non-comparable types map[string]manifest.Secret and map[string]manifest.Secret",
        ),
        ("{{eq 1}}", "eq: missing argument for comparison"),
        ("{{eq}}", "wrong number of args for eq: want at least 1 got 0"),
        ('{{eq 1 "a"}}', "eq: incompatible types for comparison"),
        ('{{eq 2 1 "a"}}', "eq: incompatible types for comparison"),
        ("{{ne 1}}", "wrong number of args for ne: want 2 got 1"),
        ("{{ne 1 2 3}}", "wrong number of args for ne: want 2 got 3"),
        ("{{lt true false}}", "lt: invalid type for comparison"),
        ("{{lt nil 1}}", "lt: invalid type for comparison"),
        ('{{lt 1 "a"}}', "lt: incompatible types for comparison"),
        ("{{lt .Secrets.key .Secrets.key}}", "lt: invalid type for comparison"),
        ("{{lt 1}}", "wrong number of args for lt: want 2 got 1"),
        ("{{lt .Secrets.key.Private .Secrets.key.Private}}", "lt: invalid type for comparison"),
        (
            "{{eq .Secrets.key.Private .Secrets.key.Private}}",
            "eq: non-comparable types manifest.PrivateKey and manifest.PrivateKey",
        ),
        ('{{eq .Secrets.key.Private "a"}}', "eq: incompatible types for comparison"),
        ("{{eq .Secrets.key .Secrets}}", "eq: non-comparable types manifest.Secret and map[string]manifest.Secret"),
    ],
)
def test_refused_comparisons(text, message):
    assert message in str(refusal(text))
