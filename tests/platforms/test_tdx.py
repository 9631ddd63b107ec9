"""configfs-tsm: one entry per quote, none left behind, and nobody else's data in the quote."""

import pytest

from confidential_bookstore.errors import PlatformError


def test_no_entry_is_left_behind(tdx):
    tdx.platform.quote(bytes(64))
    assert list(tdx.directory.iterdir()) == []


def test_somebody_else_s_write_is_noticed(tdx):
    def interfere(entry):
        (entry / "inblob").write_bytes(b"x" * 64)
        tdx.device.count(entry)

    tdx.device.between_write_and_read = interfere
    with pytest.raises(PlatformError, match="another process"):
        tdx.platform.quote(bytes(64))
    assert list(tdx.directory.iterdir()) == []


@pytest.mark.parametrize("provider", [b"sev_guest\n", b"", b"\xff"])
def test_another_provider_is_refused(tdx, provider):
    tdx.device.provider = provider
    with pytest.raises(PlatformError, match="not a TDX guest"):
        tdx.platform.quote(bytes(64))
    assert list(tdx.directory.iterdir()) == []


def test_a_kernel_that_refuses_is_a_platform_error(tdx):
    def vanish(entry):
        (entry / "inblob").unlink()

    tdx.device.between_write_and_read = vanish
    with pytest.raises(PlatformError, match="did not give a TDX quote"):
        tdx.platform.quote(bytes(64))
    tdx.directory.rmdir()
    with pytest.raises(PlatformError, match="did not give a TDX quote"):
        tdx.platform.quote(bytes(64))
