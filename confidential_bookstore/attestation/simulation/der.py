"""Just enough DER (ITU-T X.690) to write the SGX extension of a PCK certificate. Writes only, never reads."""

from __future__ import annotations


def tlv(tag: int, body: bytes) -> bytes:
    """One element: tag, definite length, body."""
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def sequence(*items: bytes) -> bytes:
    """SEQUENCE of already encoded items."""
    return tlv(0x30, b"".join(items))


def integer(value: int) -> bytes:
    """INTEGER; `value` is not negative."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def enumerated(value: int) -> bytes:
    """ENUMERATED below 128."""
    return tlv(0x0A, bytes([value]))


def boolean(value: bool) -> bytes:
    """BOOLEAN."""
    return tlv(0x01, b"\xff" if value else b"\x00")


def octet_string(value: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(0x04, value)


def object_identifier(dotted: str) -> bytes:
    """OBJECT IDENTIFIER, for example of "1.2.840.113741.1.13.1"."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        body += bytes(reversed(groups))
    return tlv(0x06, bytes(body))
