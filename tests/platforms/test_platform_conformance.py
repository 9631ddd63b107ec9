"""What every `Platform` must do, whatever is below it."""

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import dcap_qvl
import pytest

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.errors import CounterUnavailable, PlatformError, SealingUnavailable


def report_data_of(machine, subject, quote):
    collateral = machine.collateral(subject.tee)
    report = dcap_qvl.verify_with_root_ca(quote, collateral, machine.root_der, int(time.time()))
    (body,) = json.loads(report.to_json())["report"].values()
    return bytes.fromhex(body["report_data"])


def test_name(subject):
    assert subject.platform.name == subject.name


@pytest.mark.parametrize("report_data", [bytes(64), bytes(range(64)), b"\xff" * 64, b"\n" * 64])
def test_a_quote_is_over_exactly_the_report_data(machine, subject, report_data):
    quote = subject.platform.quote(report_data)
    assert isinstance(quote, bytes)
    assert report_data_of(machine, subject, quote) == report_data


@pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 128])
def test_other_sizes_are_refused(machine, subject, size):
    with pytest.raises(PlatformError, match="report data has the wrong size"):
        subject.platform.quote(bytes(size))
    assert report_data_of(machine, subject, subject.platform.quote(bytes(64))) == bytes(64)


def test_threads_get_their_own_quotes(machine, subject):
    wanted = [bytes([number]) * 64 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        quotes = list(pool.map(subject.platform.quote, wanted))
    assert [report_data_of(machine, subject, quote) for quote in quotes] == wanted


def test_sealing_keys_are_stable_and_differ_by_policy(subject):
    if not subject.seals:
        for policy in SealPolicy:
            with pytest.raises(SealingUnavailable):
                subject.platform.sealing_key(policy)
        return
    keys = {policy: subject.platform.sealing_key(policy) for policy in SealPolicy}
    assert {policy: subject.platform.sealing_key(policy) for policy in SealPolicy} == keys
    assert len(set(keys.values())) == len(SealPolicy)
    assert {len(key) for key in keys.values()} == {32}


def test_a_counter_only_goes_up(subject):
    counter, other = secrets.token_bytes(32), secrets.token_bytes(32)
    if not subject.counts:
        with pytest.raises(CounterUnavailable, match="monotonic counters"):
            subject.platform.raise_counter(counter, 1)
        return
    steps = [(0, 0), (3, 0), (2, 3), (0, 3), (4, 3), (2**64 - 1, 4), (5, 2**64 - 1)]
    assert [subject.platform.raise_counter(counter, value) for value, _ in steps] == [before for _, before in steps]
    assert subject.platform.raise_counter(other, 1) == 0


@pytest.mark.parametrize(("size", "value"), [(0, 1), (31, 1), (33, 1), (32, -1), (32, 2**64)])
def test_other_counters_are_refused(subject, size, value):
    with pytest.raises(PlatformError, match="counter"):
        subject.platform.raise_counter(bytes(size), value)


def test_threads_count_together(subject):
    counter = secrets.token_bytes(32)

    def raised(value: int) -> int | None:
        try:
            return subject.platform.raise_counter(counter, value)
        except CounterUnavailable:
            return None

    with ThreadPoolExecutor(8) as pool:
        before = list(pool.map(raised, range(1, 101)))
    if not subject.counts:
        assert set(before) == {None}
        return
    # What raises the counter sees each of its values once; the first one sees 0.
    raising = [seen for value, seen in enumerate(before, 1) if seen < value]
    assert len(set(raising)) == len(raising)
    assert 0 in raising
    assert subject.platform.raise_counter(counter, 0) == 100
