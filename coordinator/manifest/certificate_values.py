"""Values of single `Cert` fields, in the JSON that Go writes for them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Callable

from cryptography import x509

from coordinator.manifest.fields import Fields, Node
from coordinator.pki.certificate_template import IPAddress

DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
EMAIL_ADDRESS = re.compile(r"[!-?A-~]+@[A-Za-z0-9.-]+")  # printable ASCII without '@' and blanks
DOMAIN = re.compile(r"\.?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")  # of a constraint; with a dot: below it
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_NO_TIME = dt.datetime(1, 1, 1, tzinfo=dt.UTC)  # how Go writes a time that was never set
_FIRST_YEAR = 1950  # of a time in a certificate, RFC 5280 4.1.2.5


def read_matching(fields: Fields, name: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    """A list of strings of one form."""
    for item in fields.items(name):
        if not pattern.fullmatch(item.text()):
            raise item.error(f"not {what}", got=ascii(item.text()[:80]))
    return fields.texts(name)


def read_uris(fields: Fields, name: str) -> tuple[str, ...]:
    """A list of URIs: strings, or objects as Go writes a `url.URL`."""
    return tuple(_read_uri(item) for item in fields.items(name))


def read_addresses(fields: Fields, name: str) -> tuple[IPAddress, ...]:
    """A list of IP addresses without zones."""
    return tuple(_read_address(item) for item in fields.items(name))


def read_networks(fields: Fields, name: str) -> tuple[x509.GeneralName, ...]:
    """A list of networks: `10.0.0.0/8`, or objects as Go writes a `net.IPNet`."""
    return tuple(x509.IPAddress(_read_network(item)) for item in fields.items(name))


def read_object_identifiers(fields: Fields, name: str) -> tuple[str, ...]:
    """A list of different object identifiers, dotted."""
    found: dict[str, None] = {}
    for item in fields.items(name):
        oid = read_object_identifier(item)
        if oid in found:
            raise item.error("object identifier stands twice", got=oid)
        found[oid] = None
    return tuple(found)


def read_object_identifier(node: Node) -> str:
    """An object identifier, in the manifest a list of numbers."""
    dotted = ".".join(str(item.integer()) for item in node.items())
    try:
        return x509.ObjectIdentifier(dotted).dotted_string
    except ValueError:
        raise node.error("not an object identifier", got=dotted[:80], expected="numbers such as [2, 5, 4, 3]") from None


def read_time(fields: Fields, name: str) -> dt.datetime | None:
    """A time with its zone; None if there is none, also in Go's way."""
    node = fields.get(name)
    if node is None:
        return None
    text = node.text()
    try:
        # Python knows microseconds, certificates seconds: the fraction does not matter.
        time = dt.datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper())) if _RFC_3339.fullmatch(text) else None
    except ValueError:
        time = None
    if time is None or (time != _NO_TIME and time.year < _FIRST_YEAR):
        raise node.error("not a time", got=ascii(text[:80]), expected="RFC 3339, such as 2030-01-01T00:00:00Z")
    return None if time == _NO_TIME else time


def general_names(
    make: Callable[[str], x509.GeneralName], fields: Fields, name: str, *patterns: re.Pattern[str]
) -> tuple[x509.GeneralName, ...]:
    """The values of a name constraint; each matches one of the patterns."""
    for item in fields.items(name):
        if not any(pattern.fullmatch(item.text()) for pattern in patterns):
            raise item.error("not a name that can be constrained", got=ascii(item.text()[:80]))
    return tuple(make(text) for text in fields.texts(name))


def _read_uri(node: Node) -> str:
    uri = node.text() if isinstance(node.value, str) else _joined_url(node)
    if not _URI.fullmatch(uri):
        raise node.error("not a URI", got=ascii(uri[:80]))
    return uri


def _joined_url(node: Node) -> str:
    fields = node.fields(
        ("Scheme", "Opaque", "Host", "Path", "RawQuery", "Fragment"),
        refused=("User", "RawPath", "OmitHost", "ForceQuery", "RawFragment"),
    )
    host, path = fields.text("Host"), fields.text("Path")
    authority = f"//{host}" if host else ""
    uri = f"{fields.text('Scheme')}:{fields.text('Opaque') or authority + path}"
    for separator, name in (("?", "RawQuery"), ("#", "Fragment")):
        if text := fields.text(name):
            uri += separator + text
    return uri


def _read_address(node: Node) -> IPAddress:
    try:
        address = ipaddress.ip_address(node.text())
    except ValueError:
        raise node.error("not an IP address", got=ascii(node.text()[:80])) from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise node.error("IP address has a zone", got=ascii(node.text()[:80]))
    return address


def _read_network(node: Node) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(node.value, str):
        text = node.text()
    else:
        fields = node.fields(("IP", "Mask"))
        text = f"{fields.text('IP')}/{_prefix_length(fields)}"
    try:
        if "/" not in text or "%" in text:
            raise ValueError  # a single address is written as a network, too
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise node.error("not a network", got=ascii(text[:80]), expected="such as 10.0.0.0/8") from None


def _prefix_length(fields: Fields) -> int:
    mask = fields.octets("Mask")
    bits = "".join(f"{octet:08b}" for octet in mask[:17])
    length = bits.count("1")
    sizes = {4: 32, 16: 128}
    if len(mask) not in sizes or bits.rstrip("0") != "1" * length:
        raise (fields.get("Mask") or fields.node).error("not a network mask", expected="4 or 16 bytes, ones first")
    return length
