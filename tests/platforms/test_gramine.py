"""Gramine's pseudo-files: what can be missing or wrong."""

import dataclasses

import pytest

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.errors import PlatformError, SealingUnavailable


@pytest.mark.parametrize("kind", [b"none", b"epid\n", b""])
def test_only_dcap_attests(gramine, kind):
    (gramine.directory / "attestation_type").write_bytes(kind)
    with pytest.raises(PlatformError) as refused:
        gramine.platform.quote(bytes(64))
    assert "sgx.remote_attestation" in refused.value.hint
    assert (gramine.directory / "user_report_data").read_bytes() == b""


@pytest.mark.parametrize("field", ["mr_enclave", "mr_signer"])
def test_the_host_cannot_hand_in_another_enclaves_quote(gramine, field):
    """The quote comes from outside, and a marble takes the signer of its coordinator from its own quote."""
    gramine.device.quoted = dataclasses.replace(gramine.device.quoted, **{field: b"x" * 32})
    with pytest.raises(PlatformError, match="not of this enclave"):
        gramine.platform.quote(bytes(64))


@pytest.mark.parametrize("name", ["attestation_type", "user_report_data", "my_target_info", "target_info"])
def test_a_missing_file_is_a_platform_error(gramine, name):
    (gramine.directory / name).unlink()
    with pytest.raises(PlatformError, match=name):
        gramine.platform.quote(bytes(64))


def test_a_missing_or_short_key_is_no_sealing_key(gramine):
    key = gramine.directory / "keys" / "_sgx_mrsigner"
    for content in (b"", b"S" * 15, b"S" * 17):
        key.write_bytes(content)
        with pytest.raises(SealingUnavailable):
            gramine.platform.sealing_key(SealPolicy.PRODUCT_KEY)
    key.unlink()
    with pytest.raises(SealingUnavailable, match="_sgx_mrsigner"):
        gramine.platform.sealing_key(SealPolicy.PRODUCT_KEY)
    assert gramine.platform.sealing_key(SealPolicy.UNIQUE_KEY)
