"""Policies, which are MarbleRun's era configurations."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.policy import read_policy

SIGNER = "43361aff" * 8


def test_an_era_configuration_of_marblerun():
    raw = json.dumps({"SecurityVersion": 3, "ProductID": 3, "SignerID": SIGNER.upper()}).encode()
    policy = read_policy(raw)
    assert policy.raw == raw
    assert (policy.package.signer_id, policy.package.product_id, policy.package.security_version) == (SIGNER, 3, 3)
    assert policy.package.accepted_tcb_statuses == ("SWHardeningNeeded",)
    assert not policy.package.debug


def test_all_keys():
    document = {
        "uniqueid": "ab" * 32, "SignerID": "", "ProductID": None, "SecurityVersion": None, "Debug": True,
        "AcceptedTCBStatuses": ["OutOfDate"], "AcceptedAdvisories": ["INTEL-SA-1"], "RTMRs": ["cd" * 48],
        "Nonce": "ignored", "InsecureSkipVerify": False,
    }  # fmt: skip
    package = read_policy(json.dumps(document).encode()).package
    assert (package.unique_id, package.debug, package.rtmrs) == ("ab" * 32, True, ("cd" * 48,))
    assert (package.accepted_tcb_statuses, package.accepted_advisories) == (("OutOfDate",), ("INTEL-SA-1",))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "not JSON"),
        ([], "wrong type"),
        ({}, "nobody named"),
        ({"SignerID": SIGNER, "ProductID": 1}, "nobody named"),
        ({"ProductID": 1, "SecurityVersion": 1}, "nobody named"),
        ({"UniqueID": "xy"}, "UniqueID is malformed"),
        ({"UniqueID": "abc"}, "UniqueID is malformed"),
        ({"UniqueID": 7}, "UniqueID is malformed"),
        ({"UniqueID": "ab", "ProductID": True}, "ProductID is malformed"),
        ({"UniqueID": "ab", "SecurityVersion": -1}, "SecurityVersion is malformed"),
        ({"UniqueID": "ab", "Debug": 1}, "Debug is malformed"),
        ({"UniqueID": "ab", "AcceptedTCBStatuses": "UpToDate"}, "AcceptedTCBStatuses is malformed"),
        ({"UniqueID": "ab", "AcceptedAdvisories": [1]}, "AcceptedAdvisories is malformed"),
        ({"UniqueID": "ab", "SecurtyVersion": 2}, "unknown keys: got SecurtyVersion"),
        ({"UniqueID": "ab", "uniqueID": "cd"}, "a key twice"),
        ({"UniqueID": "ab", "InsecureSkipVerify": True}, "not supported"),
    ],
)
def test_what_is_not_understood_is_refused(document, said):
    raw = document if isinstance(document, str) else json.dumps(document)
    with pytest.raises(ConfigurationError, match=said):
        read_policy(raw.encode(), "policy.json")


@given(
    st.binary(max_size=64) | st.dictionaries(st.text(max_size=20), st.integers()).map(lambda d: json.dumps(d).encode())
)
def test_nothing_but_a_configuration_error(raw):
    with pytest.raises(ConfigurationError):
        read_policy(raw)
