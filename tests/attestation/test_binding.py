from hashlib import sha256

from confidential_bookstore.attestation.binding import coordinator_report_data, marble_report_data


def test_marble():
    assert marble_report_data(b"certificate") == sha256(b"certificate").digest() + bytes(32)


def test_coordinator():
    assert coordinator_report_data(b"root") == sha256(b"root").digest() + bytes(32)
    assert coordinator_report_data(b"root", b"nonce") == sha256(b"rootnonce").digest() + bytes(32)
    assert coordinator_report_data(b"root", b"nonce") != coordinator_report_data(b"root")
