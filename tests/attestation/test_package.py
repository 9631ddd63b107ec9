import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.errors import PackageMismatch

SGX = Claims(
    root_key_id="00",
    tee="SGX",
    report_data=bytes(64),
    debug=False,
    tcb_status="UpToDate",
    advisories=(),
    tcb_evaluation_number=17,
    fmspc="00606a000000",
    expires=0,
    unique_id="ab" * 32,
    signer_id="cd" * 32,
    product_id=3,
    security_version=7,
)
TDX = dataclasses.replace(
    SGX,
    tee="TDX",
    unique_id="ef" * 48,
    signer_id="",
    product_id=None,
    security_version=None,
    rtmrs=tuple(digit * 96 for digit in "abcd"),
)
BY_SIGNER = Package(signer_id=SGX.signer_id, product_id=3, security_version=7)


def refused(package, claims):
    with pytest.raises(PackageMismatch) as mismatch:
        package.check(claims)
    return mismatch.value


def accepts(package, claims):
    try:
        package.check(claims)
    except PackageMismatch:
        return False
    return True


@pytest.mark.parametrize(
    "package",
    [
        BY_SIGNER,
        Package(unique_id=SGX.unique_id),
        Package(unique_id=SGX.unique_id.upper()),
        dataclasses.replace(BY_SIGNER, signer_id=SGX.signer_id.upper()),
        dataclasses.replace(BY_SIGNER, security_version=0),
        dataclasses.replace(BY_SIGNER, unique_id=SGX.unique_id),
        Package(unique_id=SGX.unique_id, rtmrs=("", "", "", "")),
    ],
)
def test_allowed(package):
    package.check(SGX)


@pytest.mark.parametrize(
    ("rule", "change", "got", "expected"),
    [
        ("UniqueID", {"unique_id": "AC" * 32}, "ab" * 32, "ac" * 32),
        ("UniqueID", {"unique_id": "ab" * 31}, "ab" * 32, "ab" * 31),
        ("SignerID", {"signer_id": "CE" * 32}, "cd" * 32, "ce" * 32),
        ("ProductID", {"product_id": 4}, 3, 4),
        ("ProductID", {"product_id": 0}, 3, 0),
        ("SecurityVersion", {"security_version": 8}, 7, "at least 8"),
        ("Debug", {"debug": True}, False, True),
        ("RTMR0", {"rtmrs": ("a" * 96,)}, "none", "a" * 96),
    ],
)
def test_each_rule_is_named_with_what_it_saw(rule, change, got, expected):
    mismatch = refused(dataclasses.replace(BY_SIGNER, **change), SGX)
    assert (mismatch.rule, mismatch.got, mismatch.expected) == (rule, got, expected)


@pytest.mark.parametrize(
    "package",
    [
        Package(),
        Package(signer_id=SGX.signer_id),
        Package(signer_id=SGX.signer_id, product_id=3),
        Package(signer_id=SGX.signer_id, security_version=7),
        Package(product_id=3, security_version=7),
        Package(rtmrs=TDX.rtmrs),
    ],
)
@pytest.mark.parametrize("claims", [SGX, TDX], ids=["SGX", "TDX"])
def test_underspecified(package, claims):
    assert package.underspecified
    assert refused(package, claims).rule == "identity"


def test_zero_is_a_product_id_and_a_security_version():
    package = Package(signer_id=SGX.signer_id, product_id=0, security_version=0)
    assert not package.underspecified
    package.check(dataclasses.replace(SGX, product_id=0, security_version=0))


def test_trust_domain():
    Package(unique_id=TDX.unique_id).check(TDX)
    Package(unique_id=TDX.unique_id.upper(), rtmrs=tuple(rtmr.upper() for rtmr in TDX.rtmrs)).check(TDX)
    Package(unique_id=TDX.unique_id, rtmrs=("", "", TDX.rtmrs[2])).check(TDX)
    mismatch = refused(Package(unique_id=TDX.unique_id, rtmrs=("", "", "0" * 96)), TDX)
    assert (mismatch.rule, mismatch.got) == ("RTMR2", "c" * 96)
    assert refused(Package(unique_id=TDX.unique_id, rtmrs=("", "", "", "", "1" * 96)), TDX).rule == "RTMR4"


def test_an_enclaves_package_fits_no_trust_domain():
    assert refused(BY_SIGNER, TDX).rule == "SignerID"
    assert refused(Package(unique_id=TDX.unique_id, product_id=3), TDX).rule == "ProductID"
    assert refused(Package(unique_id=TDX.unique_id, security_version=0), TDX).rule == "SecurityVersion"


def test_tcb_statuses():
    hardening, outdated = (dataclasses.replace(SGX, tcb_status=status) for status in ("SWHardeningNeeded", "OutOfDate"))
    BY_SIGNER.check(hardening)
    mismatch = refused(BY_SIGNER, outdated)
    assert (mismatch.rule, mismatch.got) == ("TCB status", "OutOfDate")
    assert mismatch.expected == "UpToDate or SWHardeningNeeded"
    dataclasses.replace(BY_SIGNER, accepted_tcb_statuses=("OutOfDate",)).check(outdated)
    strict = dataclasses.replace(BY_SIGNER, accepted_tcb_statuses=())
    strict.check(SGX)
    assert refused(strict, hardening).rule == "TCB status"


def test_advisories():
    hardening = dataclasses.replace(
        SGX, tcb_status="SWHardeningNeeded", advisories=("INTEL-SA-00615", "INTEL-SA-00289")
    )
    package = dataclasses.replace(BY_SIGNER, accepted_advisories=("intel-sa-00615",))
    mismatch = refused(package, hardening)
    assert (mismatch.rule, mismatch.got) == ("advisory", "INTEL-SA-00289")
    dataclasses.replace(package, accepted_advisories=("intel-sa-00615", "Intel-SA-00289")).check(hardening)
    package.check(dataclasses.replace(hardening, advisories=()))
    dataclasses.replace(package, accepted_advisories=("INTEL-SA-00615",)).check(
        dataclasses.replace(hardening, advisories=("Intel-sa-00615",))
    )
    other = dataclasses.replace(package, accepted_tcb_statuses=("OutOfDate",))
    other.check(dataclasses.replace(hardening, tcb_status="OutOfDate"))


hex_ids = st.sampled_from(["ab" * 32, "cd" * 32])
small = st.integers(0, 3)
claims_of_enclaves = st.builds(
    Claims,
    root_key_id=st.just("00"),
    tee=st.just("SGX"),
    report_data=st.just(bytes(64)),
    debug=st.booleans(),
    tcb_status=st.sampled_from(["UpToDate", "SWHardeningNeeded", "OutOfDate"]),
    advisories=st.lists(st.sampled_from(["A", "B"]), unique=True).map(tuple),
    tcb_evaluation_number=st.just(1),
    fmspc=st.just("00"),
    expires=st.just(0),
    unique_id=hex_ids,
    signer_id=hex_ids,
    product_id=small,
    security_version=small,
)
packages = st.builds(
    Package,
    unique_id=st.just("") | hex_ids | hex_ids.map(str.upper),
    signer_id=st.just("") | hex_ids | hex_ids.map(str.upper),
    product_id=st.none() | small,
    security_version=st.none() | small,
    debug=st.booleans(),
    accepted_tcb_statuses=st.lists(st.sampled_from(["SWHardeningNeeded", "OutOfDate"]), unique=True).map(tuple),
    accepted_advisories=st.lists(st.sampled_from(["a", "B"]), unique=True).map(tuple),
)


@given(package=packages, claims=claims_of_enclaves)
def test_whatever_is_accepted_has_a_named_identity(package, claims):
    if accepts(package, claims):
        assert package.unique_id.lower() == claims.unique_id or package.signer_id.lower() == claims.signer_id
        assert claims.debug == package.debug
        assert claims.tcb_status in {"UpToDate", *package.accepted_tcb_statuses}


@given(claims=claims_of_enclaves)
def test_what_a_quote_says_of_itself_is_allowed_by_its_own_package(claims):
    exact = Package(
        unique_id=claims.unique_id,
        signer_id=claims.signer_id,
        product_id=claims.product_id,
        security_version=claims.security_version,
        debug=claims.debug,
        accepted_tcb_statuses=(claims.tcb_status,),
        accepted_advisories=claims.advisories,
    )
    exact.check(claims)


@given(package=packages, claims=claims_of_enclaves)
def test_a_newer_version_is_as_welcome_as_the_old_one(package, claims):
    newer = dataclasses.replace(claims, security_version=claims.security_version + 1)
    assert accepts(package, newer) >= accepts(package, claims)


@given(package=packages, claims=claims_of_enclaves)
def test_the_case_of_hex_does_not_matter(package, claims):
    upper = dataclasses.replace(package, unique_id=package.unique_id.upper(), signer_id=package.signer_id.upper())
    assert accepts(upper, claims) == accepts(package, claims)


@given(package=packages, claims=claims_of_enclaves, field=st.sampled_from(["unique_id", "signer_id", "product_id"]))
def test_naming_more_never_lets_in_more(package, claims, field):
    if not package.underspecified and getattr(package, field) in ("", None):
        narrower = dataclasses.replace(package, **{field: getattr(SGX, field)})
        assert accepts(narrower, claims) <= accepts(package, claims)
