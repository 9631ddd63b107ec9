import base64
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.errors import (
    AttestationError,
    EmptyQuote,
    MalformedQuote,
    TrailingBytes,
    UnsupportedQuote,
)


def parse_or_refuse(raw):
    """Whatever the bytes are, there is a quote or a typed error, and parsing a quote again changes nothing."""
    try:
        quote = parse_quote(raw)
    except AttestationError:
        return None
    assert parse_quote(quote.raw) == quote
    return quote


def open_enclave(quote, size=None):
    return struct.pack("<IIQ", 1, 2, len(quote) if size is None else size) + quote


def test_every_vector_is_read_as_recorded(any_vector):
    expected = any_vector.expected
    if expected["fmspc"] is None:
        with pytest.raises(UnsupportedQuote, match="no PCK certificate chain"):
            parse_quote(any_vector.raw)
        return
    quote = parse_quote(any_vector.raw)
    assert (quote.version, quote.tee) == (expected["quote_version"], expected["tee"])
    assert (quote.fmspc, quote.ca) == (expected["fmspc"].lower(), expected["ca"])
    assert quote.report_data.hex() == expected["report_data"]
    assert quote.mr_enclave == expected.get("mr_enclave", "")
    assert quote.mr_signer == expected.get("mr_signer", "")
    assert quote.raw == any_vector.raw


def test_the_claimed_root_of_real_quotes_is_intels(vector):
    assert parse_quote(vector.raw).root_key_id == INTEL_ROOT_KEY_ID


def test_zero_padding_is_cut(accepted):
    assert parse_quote(accepted.raw + bytes(100)) == parse_quote(accepted.raw)


@pytest.mark.parametrize("tail", [b"\x01", b"\x00\x00\x01", bytes(50) + b"x"])
def test_anything_else_after_the_quote_is_refused(accepted, tail):
    with pytest.raises(TrailingBytes):
        parse_quote(accepted.raw + tail)


def test_no_bytes_are_no_quote():
    with pytest.raises(EmptyQuote):
        parse_quote(b"")


def test_open_enclave_header_is_removed(accepted):
    assert parse_quote(open_enclave(accepted.raw)) == parse_quote(accepted.raw)


@pytest.mark.parametrize("wrong", [-1, 1, 1 << 40])
def test_open_enclave_header_with_another_size_is_refused(sgx, wrong):
    with pytest.raises(MalformedQuote, match="Open Enclave"):
        parse_quote(open_enclave(sgx.raw, size=len(sgx.raw) + wrong))


def test_open_enclave_headers_do_not_nest(sgx):
    with pytest.raises(UnsupportedQuote):
        parse_quote(open_enclave(open_enclave(sgx.raw)))


def test_a_header_alone_is_malformed():
    with pytest.raises(MalformedQuote):
        parse_quote(open_enclave(b""))


@pytest.mark.parametrize(
    ("name", "version", "tee_type"), [("sgx", 4, 0), ("sgx", 5, 0), ("sgx", 2, 0), ("tdx", 3, 0x81), ("tdx", 5, 0x82)]
)
def test_other_kinds_of_quotes_are_not_supported(request, name, version, tee_type):
    raw = bytearray(request.getfixturevalue(name).raw)
    struct.pack_into("<H", raw, 0, version)
    struct.pack_into("<I", raw, 4, tee_type)
    with pytest.raises(UnsupportedQuote, match="TEE type"):
        parse_quote(bytes(raw))


def test_other_attestation_keys_are_not_supported(sgx):
    with pytest.raises(UnsupportedQuote, match="attestation key"):
        parse_quote(sgx.raw[:2] + b"\x03" + sgx.raw[3:])


@pytest.mark.parametrize("body_type", [0, 1, 5])
def test_other_bodies_of_version_5_are_not_supported(tdx, body_type):
    with pytest.raises(UnsupportedQuote, match="body"):
        parse_quote(tdx.raw[:48] + bytes([body_type]) + tdx.raw[49:])


def test_body_size_of_version_5_must_fit_its_type(tdx):
    with pytest.raises(MalformedQuote, match="wrong size"):
        parse_quote(tdx.raw[:50] + struct.pack("<I", 584) + tdx.raw[54:])


def test_a_quote_of_many_bytes_is_refused_unread(sgx):
    with pytest.raises(MalformedQuote, match="too long"):
        parse_quote(sgx.raw + bytes(1 << 16))


def test_a_leaf_of_another_ca_is_not_supported(sgx):
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----"
    start = sgx.raw.index(begin) + len(begin)
    leaf = sgx.raw[start : sgx.raw.index(end, start)]
    other = base64.encodebytes(base64.b64decode(leaf).replace(b"PCK Platform CA", b"PCK Moonbase CA"))
    lines = b"".join(other.split())
    rewrapped = b"".join(lines[i : i + 64] + b"\n" for i in range(0, len(lines), 64))
    assert len(rewrapped) == len(leaf)
    with pytest.raises(UnsupportedQuote, match="unknown CA"):
        parse_quote(sgx.raw.replace(leaf, rewrapped))


def test_a_chain_that_begins_with_the_root_is_malformed(sgx):
    """The root's certificate has no PCK extension."""
    start, end = sgx.raw.index(b"-----BEGIN"), sgx.raw.rindex(b"-----BEGIN")
    swapped = sgx.raw[:start] + sgx.raw[end:-1]
    raw = swapped + b"\n" * (len(sgx.raw) - len(swapped))
    with pytest.raises(MalformedQuote, match="PCK certificate chain"):
        parse_quote(raw)


@pytest.mark.parametrize("name", ["sgx", "tdx"])
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_certificate_broken_anywhere(request, name):
    """Libraries raise all sorts of errors for broken certificates; a quote with one is refused or read, never more."""
    raw = request.getfixturevalue(name).raw
    for match in re.finditer(rb"-----BEGIN CERTIFICATE-----\n(.+?)-----END", raw, re.DOTALL):
        der = base64.b64decode(match[1])
        for index in range(len(der)):
            broken = base64.b64encode(der[:index] + bytes([der[index] ^ 0x11]) + der[index + 1 :])
            lines = b"".join(broken[i : i + 64] + b"\n" for i in range(0, len(broken), 64))
            parse_or_refuse(raw[: match.start(1)] + lines + raw[match.end(1) :])


@given(cut=st.integers(min_value=1, max_value=4733))
def test_cut_short_anywhere(sgx, cut):
    with pytest.raises(MalformedQuote):
        parse_quote(sgx.raw[:cut])


@given(raw=st.binary(max_size=2000))
def test_random_bytes(raw):
    assert parse_or_refuse(raw) is None


@given(
    head=st.sampled_from(
        [b"\x03\x00\x02\x00\x00\x00\x00\x00", b"\x04\x00\x02\x00\x81\x00\x00\x00", b"\x05\x00\x02\x00\x81"]
    ),
    rest=st.binary(min_size=400, max_size=3000),
)
def test_random_bytes_behind_a_good_header(head, rest):
    parse_or_refuse(head + rest)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", ["sgx", "tdx"])
@given(data=st.data())
def test_mutations_of_real_quotes(request, name, data):
    raw = bytearray(request.getfixturevalue(name).raw)
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.integers(0, len(raw) - 1))
        raw[offset] = data.draw(st.integers(0, 255))
    quote = parse_or_refuse(bytes(raw))
    if quote is not None:
        assert quote.raw == bytes(raw)
