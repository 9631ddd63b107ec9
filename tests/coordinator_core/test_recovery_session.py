from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovery_material import RECORDS, Sealed, public_keys, signature

from confidential_bookstore.errors import RecoveryError, SealedStateError
from confidential_bookstore.secret import Secret
from coordinator.recovery.data_key import DataKey
from coordinator.recovery.session import Progress, Recovered, RecoverySession

NOTHING, ONE = Sealed.new(0), Sealed.new(1)
ALL_OF_THREE, TWO_OF_FOUR = Sealed.new(3), Sealed.new(4, 2)
ALL_OF_FIVE, THREE_OF_FIVE = Sealed.new(5), Sealed.new(5, 3)
LISTED = [ALL_OF_THREE, TWO_OF_FOUR, THREE_OF_FIVE]
GARBAGE = st.lists(
    st.tuples(
        st.one_of([st.binary(min_size=size, max_size=size) for size in (16, 32, 33)]), st.binary(max_size=128)
    ).filter(lambda upload: not any(upload[0] in sealed.shares for sealed in LISTED)),
    max_size=30,
)


def recovered(sealed: Sealed, recovery_data: bytes | None = None) -> Recovered:
    data = sealed.data_key.recovery_data if recovery_data is None else recovery_data
    return Recovered(RECORDS, DataKey(sealed.data_key.key, data))


def throw(session: RecoverySession, sealed: Sealed, garbage) -> None:
    """Uploads what is refused or comes to nothing."""
    for secret, signed in garbage:
        try:
            assert session.upload(secret, signed, sealed.verify) == Progress(1, recognised=False)
        except RecoveryError:
            continue


def needed(sealed: Sealed) -> int:
    return sealed.threshold or len(sealed.shares)


class TestListedShares:
    @pytest.mark.parametrize("sealed", LISTED)
    def test_any_of_them_in_any_order_and_what_remains_counts_from_the_threshold(self, sealed):
        for numbers in itertools.permutations(range(len(sealed.shares)), needed(sealed)):
            session = sealed.session()
            for missing, number in zip(range(needed(sealed) - 1, 0, -1), numbers[:-1], strict=True):
                assert sealed.upload(session, number) == Progress(missing, recognised=True)
            assert sealed.upload(session, numbers[-1]) == recovered(sealed)

    @pytest.mark.parametrize("sealed", [TWO_OF_FOUR, THREE_OF_FIVE])
    def test_marbleruns_own_data_do_not_tell_the_threshold(self, sealed):
        total = len(sealed.shares)
        session = sealed.session(sealed.data_key.recovery_data.rstrip(b" "))
        for number in range(needed(sealed) - 1):
            assert sealed.upload(session, number) == Progress(total - number - 1, recognised=True)
        last = sealed.upload(session, total - 1)
        assert last == recovered(sealed, sealed.data_key.recovery_data.rstrip(b" "))

    @given(blanks=st.integers(0, 9), sealed=st.sampled_from([TWO_OF_FOUR, THREE_OF_FIVE]))
    @settings(deadline=None)
    def test_a_threshold_that_the_host_has_changed_decides_nothing(self, blanks, sealed):
        session = sealed.session(sealed.data_key.recovery_data.rstrip(b" ") + b" " * blanks)
        for number in range(needed(sealed) - 1):
            assert sealed.upload(session, number).remaining >= 1
        assert isinstance(sealed.upload(session, needed(sealed) - 1), Recovered)

    @pytest.mark.parametrize("sealed", LISTED)
    def test_a_share_counts_once(self, sealed):
        session = sealed.session()
        progress = sealed.upload(session, 0)
        for signer in (0, 1):
            with pytest.raises(
                RecoveryError, match=r"^setting recovery key: uploaded an invalid or already used secret$"
            ):
                sealed.upload(session, 0, signed_by=signer)
        assert sealed.upload(session, 1) in (
            Progress(progress.remaining - 1, recognised=True),
            recovered(sealed),
        )

    @given(garbage=GARBAGE, sealed=st.sampled_from(LISTED), data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_nobody_without_a_share_can_disturb_it(self, garbage, sealed, data):
        session = sealed.session()
        numbers = data.draw(st.permutations(range(len(sealed.shares))))[: needed(sealed)]
        for number in numbers:
            for secret, signed in garbage:
                with pytest.raises(RecoveryError, match="invalid or already used"):
                    session.upload(secret, signed, sealed.verify)
            last = sealed.upload(session, number)
        assert last == recovered(sealed)

    def test_the_key_itself_is_not_a_share(self):
        key = TWO_OF_FOUR.data_key.key.reveal()
        with pytest.raises(RecoveryError, match="invalid or already used"):
            TWO_OF_FOUR.session().upload(key, signature(key, 0), TWO_OF_FOUR.verify)

    @pytest.mark.parametrize("sealed", LISTED)
    def test_damaged_data_are_told_and_nothing_is_kept(self, sealed):
        session = RecoverySession(sealed.data_key.recovery_data, lambda _: None)
        *first, last = range(len(sealed.shares))
        for number in first:
            sealed.upload(session, number)
        for _ in range(2):
            with pytest.raises(RecoveryError, match=r"^the recovery secrets do not open the sealed state$"):
                sealed.upload(session, last)

    def test_old_keys_of_16_bytes(self):
        """All of three shares of an AES-128 key."""
        shares = [os.urandom(16) for _ in range(3)]
        key = bytes(a ^ b ^ c for a, b, c in zip(*shares, strict=True))
        listed = b'{"%s":true,"%s":true,"%s":true}' % tuple(
            hashlib.sha256(share).hexdigest().encode() for share in shares
        )
        sealed = Sealed(DataKey(Secret(key), listed), shares, 0)
        session = sealed.session()
        assert [sealed.upload(session, number) for number in (2, 0)] == [Progress(2, True), Progress(1, True)]
        assert sealed.upload(session, 1) == recovered(sealed)


class TestSignatures:
    @pytest.mark.parametrize("sealed", [ALL_OF_THREE, TWO_OF_FOUR, THREE_OF_FIVE])
    def test_only_the_wrong_one_has_to_come_again(self, sealed):
        session = sealed.session()
        count = needed(sealed)
        sealed.upload(session, 0, signed_by=7)
        for number in range(1, count - 1):
            sealed.upload(session, number)
        with pytest.raises(RecoveryError, match=r'^no matching recovery key found for recovery public key "holder0"$'):
            sealed.upload(session, count - 1)
        with pytest.raises(RecoveryError, match="already used"):
            sealed.upload(session, count - 1)
        assert sealed.upload(session, 0) == recovered(sealed)

    def test_the_last_one_may_be_the_wrong_one(self):
        session = ALL_OF_THREE.session()
        ALL_OF_THREE.upload(session, 0)
        ALL_OF_THREE.upload(session, 1)
        for signed in (b"", b"x" * 128, signature(b"other", 2), signature(ALL_OF_THREE.shares[2], 9)):
            with pytest.raises(RecoveryError, match='key "holder2"'):
                session.upload(ALL_OF_THREE.shares[2], signed, ALL_OF_THREE.verify)
        assert ALL_OF_THREE.upload(session, 2) == recovered(ALL_OF_THREE)

    def test_a_share_of_another_holder_does_as_well_with_a_right_signature(self):
        session = TWO_OF_FOUR.session()
        TWO_OF_FOUR.upload(session, 0, signed_by=3)
        assert TWO_OF_FOUR.upload(session, 2, signed_by=0) == recovered(TWO_OF_FOUR)

    @pytest.mark.parametrize("sealed", [ALL_OF_THREE, TWO_OF_FOUR])
    def test_one_holder_with_two_shares_is_one(self, sealed):
        session = sealed.session()
        for number in range(needed(sealed) - 1):
            sealed.upload(session, number, signed_by=1)
        with pytest.raises(RecoveryError, match='no matching recovery key found for recovery public key "holder'):
            sealed.upload(session, needed(sealed) - 1, signed_by=1)
        results = [sealed.upload(session, number) for number in range(needed(sealed))]
        assert results[-1] == recovered(sealed)

    def test_a_key_that_stands_for_two_holders_signs_twice(self):
        keys = {"first": public_keys(1)["holder0"], "second": public_keys(1)["holder0"]}
        sealed = Sealed.new(2)
        session = sealed.session()
        for number in range(2):
            secret = sealed.shares[number]
            last = session.upload(secret, signature(secret, 0), lambda _: (keys, 0))
        assert last == recovered(sealed)

    def test_the_sealed_manifest_may_want_more_signatures_than_shares(self):
        """As when its threshold is another than that of the shares."""
        session = TWO_OF_FOUR.session()

        def verify(_records):
            return public_keys(4), 3

        for number, missing in ((0, None), (3, "holder1"), (2, None)):
            secret = TWO_OF_FOUR.shares[number]
            if missing:
                with pytest.raises(RecoveryError, match=missing):
                    session.upload(secret, signature(secret, number), verify)
            else:
                last = session.upload(secret, signature(secret, number), verify)
        assert last == recovered(TWO_OF_FOUR)

    def test_a_manifest_that_cannot_be_read_changes_nothing(self):
        session = TWO_OF_FOUR.session()
        TWO_OF_FOUR.upload(session, 0)

        def verify(_records):
            raise SealedStateError("no such manifest")

        for _ in range(2):
            with pytest.raises(SealedStateError):
                session.upload(TWO_OF_FOUR.shares[1], signature(TWO_OF_FOUR.shares[1], 1), verify)
        assert TWO_OF_FOUR.upload(session, 1) == recovered(TWO_OF_FOUR)


class TestOneKeyOrNone:
    def test_without_recovery_keys_there_is_nothing_to_sign(self):
        key = NOTHING.data_key.key.reveal()
        assert NOTHING.session().upload(key, b"", NOTHING.verify) == recovered(NOTHING)

    @given(garbage=GARBAGE)
    @settings(max_examples=20, deadline=None)
    def test_junk_does_not_disturb_the_one_holder(self, garbage):
        session = ONE.session()
        throw(session, ONE, garbage)
        for signed in (b"", signature(b"other", 0), signature(ONE.shares[0], 1)):
            with pytest.raises(RecoveryError, match='key "holder0"'):
                session.upload(ONE.shares[0], signed, ONE.verify)
        throw(session, ONE, garbage)
        assert ONE.upload(session, 0) == recovered(ONE)

    def test_an_old_key_of_16_bytes(self):
        sealed = Sealed(DataKey(Secret(b"k" * 16)), [b"k" * 16], 0)
        assert sealed.upload(sealed.session(), 0) == recovered(sealed)


class TestLostRecoveryData:
    @pytest.mark.parametrize("lost", [b"null", b"", b"\xff\xff"])
    @pytest.mark.parametrize("sealed", [*LISTED, ALL_OF_FIVE])
    def test_combinations_are_tried(self, sealed, lost):
        session = sealed.session(lost)
        for number in range(needed(sealed) - 1):
            assert sealed.upload(session, number) == Progress(1, recognised=False)
        assert sealed.upload(session, len(sealed.shares) - 1) == recovered(sealed, b"null")

    @given(garbage=GARBAGE, sealed=st.sampled_from([*LISTED, ALL_OF_FIVE]))
    @settings(max_examples=25, deadline=None)
    def test_after_any_junk_the_right_shares_succeed(self, garbage, sealed):
        session = sealed.session(b"null")
        throw(session, sealed, garbage)
        for number in range(needed(sealed)):
            last = sealed.upload(session, number)
        assert last == recovered(sealed, b"null")

    @given(garbage=GARBAGE, sealed=st.sampled_from([*LISTED, ALL_OF_FIVE]))
    @settings(max_examples=25, deadline=None)
    def test_junk_never_pushes_out_what_came_first(self, garbage, sealed):
        session = sealed.session(b"null")
        for number in range(needed(sealed) - 1):
            sealed.upload(session, number)
            throw(session, sealed, garbage[:1])
        throw(session, sealed, garbage)
        assert sealed.upload(session, needed(sealed) - 1) == recovered(sealed, b"null")

    @pytest.mark.parametrize("sealed", [ALL_OF_FIVE, THREE_OF_FIVE])
    @pytest.mark.parametrize("first", [0, 1, 2])
    def test_a_flood_of_junk(self, sealed, first):
        """Before, and between the first ones and the others, which then come one after the other."""
        session = sealed.session(b"null")
        flood = [(os.urandom(len(sealed.shares[0])), b"") for _ in range(25)]
        for number in range(first):
            sealed.upload(session, number)
        throw(session, sealed, flood)
        for number in range(first, needed(sealed)):
            last = sealed.upload(session, number)
        assert last == recovered(sealed, b"null")

    def test_ten_shares_are_combined(self):
        sealed = Sealed.new(10)
        session = sealed.session(b"null")
        for number in range(10):
            last = sealed.upload(session, number)
        assert last == recovered(sealed, b"null")

    def test_what_is_kept_and_tried_is_bounded(self):
        tried = 0

        def never(_key: bytes) -> Mapping[str, bytes] | None:
            nonlocal tried
            tried += 1
            return None

        session = RecoverySession(b"null", never)
        for number in range(40):
            before = tried
            session.upload(number.to_bytes(32, "big"), b"", ALL_OF_THREE.verify)
            assert tried - before <= 512
        assert len(session._kept[32]) == 9

    def test_a_wrong_signature_is_forgotten_alone(self):
        session = TWO_OF_FOUR.session(b"null")
        TWO_OF_FOUR.upload(session, 0)
        with pytest.raises(RecoveryError, match='key "holder1"'):
            TWO_OF_FOUR.upload(session, 1, signed_by=9)
        assert TWO_OF_FOUR.upload(session, 1) == recovered(TWO_OF_FOUR, b"null")


@pytest.mark.parametrize("sealed", [ONE, ALL_OF_THREE, TWO_OF_FOUR])
def test_what_has_no_secrets_length(sealed):
    session = sealed.session()
    for size in (0, 15, 17, 31, 34, 512):
        with pytest.raises(RecoveryError, match=r"^invalid secret length$"):
            session.upload(bytes(size), b"", sealed.verify)
    with pytest.raises(RecoveryError, match=r"^invalid signature length"):
        session.upload(bytes(32), bytes(2049), sealed.verify)


def test_a_share_at_zero_would_be_the_key():
    with pytest.raises(RecoveryError, match="invalid or already used"):
        TWO_OF_FOUR.session(b"null").upload(TWO_OF_FOUR.data_key.key.reveal() + b"\0", b"", TWO_OF_FOUR.verify)


def test_nothing_secret_in_reprs():
    session = ONE.session()
    done = ONE.upload(session, 0)
    secret = ONE.shares[0]
    for value in (session, done, session._kept):
        assert repr(secret)[2:-1] not in repr(value)
        assert "manifest" not in repr(value)
