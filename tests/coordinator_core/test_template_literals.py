"""Literals of templates: what Go makes of them, and which it refuses."""

from __future__ import annotations

import pytest
from template_material import refusal, render


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{true}}", b"true"),
        ("{{false}}", b"false"),
        ("{{'a'}}", b"97"),
        ("{{'\\n'}}", b"10"),
        ("{{'\\377'}}", b"255"),
        ("{{'\\u00e4'}}", b"228"),
        ("{{'\\''}}", b"39"),
        ("{{'\"'}}", b"34"),
    ],
)
def test_words_and_characters(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{nil}}", "nil is not a command"),
        ("{{''}}", "malformed character constant: \"''\""),
        ("{{'ab'}}", "malformed character constant: \"'ab'\""),
        ("{{'\\\"'}}", "malformed character constant: '\\'\\\\\"\\''"),
        ('{{"\\\'"}}', 'string has the unknown escape "\\\\\'"'),
    ],
)
def test_refused_words_and_characters(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{1}}", b"1"),
        ("{{-1}}", b"-1"),
        ("{{+1}}", b"1"),
        ("{{1_000}}", b"1000"),
        ("{{0x_ff}}", b"255"),
        ("{{0xFF}}", b"255"),
        ("{{0b1_1}}", b"3"),
        ("{{0o17}}", b"15"),
        ("{{017}}", b"15"),
        ("{{0_17}}", b"15"),
        ("{{1e3}}", b"1000"),
        ("{{1.5}}", b"1.5"),
        ("{{.5}}", b"0.5"),
        ("{{1.}}", b"1"),
        ("{{1e+2}}", b"100"),
        ("{{0x1p4}}", b"16"),
        ("{{0x1.8p1}}", b"3"),
        ("{{1_0.2_5}}", b"10.25"),
        ("{{1e1_0}}", b"1e+10"),
        ("{{9223372036854775807}}", b"9223372036854775807"),
        ("{{-9223372036854775808}}", b"-9223372036854775808"),
        ("{{1e-400}}", b"0"),
        ("{{0e5}}", b"0"),
        ("{{-0}}", b"0"),
        ("{{-0.0}}", b"-0"),
        ("{{00}}", b"0"),
        ("{{0x.8p0}}", b"0.5"),
        ("{{0x1e3}}", b"483"),
        ("{{00.5}}", b"0.5"),
        ("{{01e2}}", b"100"),
        ("{{0_1.5}}", b"1.5"),
        ("{{1.5e3}} {{2.5E-2}} {{1.7976931348623157e+308}} {{5e-324}}", b"1500 0.025 1.7976931348623157e+308 5e-324"),
        (
            "{{1e5}} {{1e6}} {{123456.7}} {{1234567.8}} {{-0.0001}} {{0.00001}}",
            b"100000 1e+06 123456.7 1.2345678e+06 -0.0001 1e-05",
        ),
    ],
)
def test_numbers(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{08}}", "bad number syntax: '08'"),
        ("{{1__0}}", "bad number syntax: '1__0'"),
        ("{{1_}}", "bad number syntax: '1_'"),
        ("{{0x}}", "bad number syntax: '0x'"),
        ("{{1e}}", "bad number syntax: '1e'"),
        ("{{9223372036854775808}}", "9223372036854775808 overflows int"),
        ("{{1e400}}", "bad number syntax: '1e400'"),
        ("{{0o}}", "bad number syntax: '0o'"),
        ("{{0b}}", "bad number syntax: '0b'"),
        ("{{0b2}}", "bad number syntax: '0b2'"),
        ("{{1.5.5}}", "white space expected before an argument"),
        ("{{1..5}}", "white space expected before an argument"),
        ("{{1x}}", "bad number syntax: '1x'"),
        ("{{0xg}}", "bad number syntax: '0xg'"),
        ("{{1p3}}", "bad number syntax: '1p3'"),
        ("{{0x1.8}}", "bad number syntax: '0x1.8'"),
        ("{{1e2e3}}", "bad number syntax: '1e2e3'"),
    ],
)
def test_refused_numbers(text, message):
    assert message in str(refusal(text))
