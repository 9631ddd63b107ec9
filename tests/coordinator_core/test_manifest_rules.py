"""The rules of a manifest, one by one."""

from __future__ import annotations

import base64

import pytest
from core_material import SIGNER_ID, UNIQUE_ID, load, load_with

from confidential_bookstore.attestation.package import Package
from confidential_bookstore.errors import ManifestError, TemplateError
from confidential_bookstore.secret import Secret
from coordinator.manifest.dry_run import MAX_TOTAL_STEPS, check_templates
from coordinator.manifest.template import Template
from coordinator.secret_value import SecretType, SecretValue


def refusal(**changes) -> str:
    with pytest.raises(ManifestError) as caught:
        load(**changes)
    return str(caught.value)


BY_SIGNER = {"SignerID": SIGNER_ID, "ProductID": 0, "SecurityVersion": 0}


class TestPackages:
    def test_every_field_reaches_the_verifier(self):
        manifest = load(
            Packages={
                "shop": BY_SIGNER
                | {
                    "SignerID": SIGNER_ID.upper(),
                    "ProductID": 7,
                    "SecurityVersion": 2,
                    "AcceptedTCBStatuses": ["UpToDate", "OutOfDate"],
                    "AcceptedAdvisories": ["INTEL-SA-00334"],
                }
            }
        )
        assert manifest.packages["shop"].to_package() == Package(
            signer_id=SIGNER_ID,
            product_id=7,
            security_version=2,
            accepted_tcb_statuses=("UpToDate", "OutOfDate"),
            accepted_advisories=("INTEL-SA-00334",),
        )

    @pytest.mark.parametrize("size", [32, 48])
    def test_unique_id_is_enough(self, size):
        package = load(Packages={"shop": {"UniqueID": "AB" * size}}).packages["shop"].to_package()
        assert package == Package(unique_id="ab" * size)
        assert not package.underspecified

    def test_no_accepted_statuses_is_not_the_default(self):
        package = load(Packages={"shop": BY_SIGNER | {"AcceptedTCBStatuses": []}}).packages["shop"]
        assert package.accepted_tcb_statuses == ()

    @pytest.mark.parametrize(
        ("package", "message"),
        [
            ({}, "does not identify any code"),
            ({"SignerID": SIGNER_ID}, "no ProductID, no SecurityVersion"),
            ({"SignerID": SIGNER_ID, "ProductID": 1}, "no SecurityVersion"),
            ({"ProductID": 1, "SecurityVersion": 1}, "no SignerID"),
            (BY_SIGNER | {"UniqueID": UNIQUE_ID}, "UniqueID stands together with"),
            ({"UniqueID": UNIQUE_ID, "SecurityVersion": 0}, "UniqueID stands together with"),
            ({"UniqueID": UNIQUE_ID[:-2]}, "62 characters"),
            ({"UniqueID": UNIQUE_ID + "00"}, "66 characters"),
            ({"UniqueID": "zz" * 32}, "64 or 96 hex digits"),
            ({"UniqueID": "0x" + "a" * 62}, "Packages.shop.UniqueID: not a UniqueID"),
            (BY_SIGNER | {"SignerID": "ab" * 48}, "Packages.shop.SignerID: not a SignerID"),
            (BY_SIGNER | {"SignerID": "٣" * 64}, "Packages.shop.SignerID: not a SignerID"),
            (BY_SIGNER | {"AcceptedTCBStatuses": ["uptodate"]}, "AcceptedTCBStatuses[0]: unknown TCB status"),
            ({"UniqueID": "ab" * 48, "RTMRs": ["ab" * 32]}, "RTMRs[0]: not a RTMR"),
            ({"UniqueID": "ab" * 48, "RTMRs": [""] * 5}, "too many RTMRs: got 5, expected at most 4"),
            ({"UniqueID": "ab" * 48, "RTMRs": "ab" * 48}, "RTMRs: wrong type"),
            ({"UniqueID": UNIQUE_ID, "RTMRs": ["ab" * 48]}, "RTMRs without the UniqueID of a trust domain"),
            (BY_SIGNER | {"RTMRs": [""]}, "RTMRs without the UniqueID of a trust domain"),
        ],
    )
    def test_refused(self, package, message):
        assert message in refusal(Packages={"shop": package})

    def test_packages_that_no_marble_uses_are_checked_too(self):
        assert "Packages.other" in refusal(Packages={"shop": BY_SIGNER, "other": {}})

    def test_a_debug_package_may_be_incomplete(self):
        assert load(Packages={"shop": {"Debug": True}}).packages["shop"].to_package().debug

    def test_rtmrs_of_a_trust_domain(self):
        rtmrs = ["AB" * 48, "", "cd" * 48]
        package = load(Packages={"shop": {"UniqueID": "ef" * 48, "RTMRs": rtmrs}}).packages["shop"].to_package()
        assert package == Package(unique_id="ef" * 48, rtmrs=("ab" * 48, "", "cd" * 48))

    def test_a_package_with_another_security_version(self):
        package = load(Packages={"shop": BY_SIGNER}).packages["shop"]
        assert package.with_security_version(7).to_package() == Package(
            signer_id=SIGNER_ID, product_id=0, security_version=7
        )


class TestMarbles:
    @pytest.mark.parametrize("section", ["Packages", "Marbles"])
    @pytest.mark.parametrize("nothing", [None, {}])
    def test_there_is_at_least_one_package_and_one_marble(self, section, nothing):
        assert f"manifest has no {section}" in refusal(**{section: nothing})

    @pytest.mark.parametrize("package", ["Shop", "", "none"])
    def test_unknown_package(self, package):
        message = refusal(Marbles={"frontend": {"Package": package}})
        assert message == f"Marbles.frontend.Package: unknown package: got '{package}', expected one of shop"

    def test_package_left_out(self):
        assert "Marbles.frontend.Package: unknown package" in refusal(Marbles={"frontend": {}})

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65])
    def test_a_name_that_cannot_stand_in_a_certificate(self, name):
        assert "cannot stand in a certificate" in refusal(Marbles={name: {"Package": "shop"}})

    def test_fields(self):
        marble = load_with(MaxActivations=3, DisableSecretBinding=True).marbles["frontend"]
        assert (marble.name, marble.package, marble.max_activations) == ("frontend", "shop", 3)
        assert marble.disable_secret_binding
        assert marble.references == frozenset()

    def test_no_parameters_at_all(self):
        parameters = load().marbles["frontend"].parameters
        assert (dict(parameters.files), dict(parameters.env), parameters.argv) == ({}, {}, ())

    def test_arguments_are_taken_as_they_are(self):
        manifest = load(Marbles={"a": {"Package": "shop", "Parameters": {"Argv": ["./a", "{{ no template", ""]}}})
        assert manifest.marbles["a"].parameters.argv == ("./a", "{{ no template", "")

    @pytest.mark.parametrize("variable", ["", "A=B", "A\0"])
    def test_names_of_variables(self, variable):
        assert "not the name of an environment variable" in refused_parameters(Env={variable: "x"})

    @pytest.mark.parametrize("path", ["", "/a\0b"])
    def test_paths_of_files(self, path):
        assert "not the path of a file" in refused_parameters(Files={path: "x"})

    def test_nul_in_an_argument(self):
        assert "Argv[0]: argument has a NUL byte" in refused_parameters(Argv=["a\0"])

    @pytest.mark.parametrize(
        "value", ["a\0", {"Data": "00", "Encoding": "hex"}, {"Data": "\0", "NoTemplates": True}, r'{{ "a\x00" }}']
    )
    def test_nul_in_a_variable(self, value):
        assert "Env.X: value of an environment variable has a NUL byte" in refused_parameters(Env={"X": value})

    def test_nul_in_a_file_is_fine(self):
        manifest = load_with(files={"/a": {"Data": "00ff", "Encoding": "hex", "NoTemplates": True}})
        assert manifest.marbles["frontend"].parameters.files["/a"].content == b"\x00\xff"

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ({"Data": "abc", "NoTemplates": True}, b"abc"),
            ({"Data": "{{ x", "NoTemplates": True, "Encoding": "String"}, b"{{ x"),
            ({"data": "aGk=", "encoding": "BASE64", "notemplates": True}, b"hi"),
            ({"Data": "aG\r\nk=", "Encoding": "base64", "NoTemplates": True}, b"hi"),
            ({"Data": "6869FF", "Encoding": "Hex", "NoTemplates": True}, b"hi\xff"),
            ({"NoTemplates": True}, b""),
        ],
    )
    def test_encodings(self, file, content):
        manifest = load_with(files={"f": file})
        assert manifest.marbles["frontend"].parameters.files["f"].content == content

    @pytest.mark.parametrize(
        ("file", "message"),
        [
            ({"Data": "", "Encoding": "base32"}, "Files.f: unknown encoding"),
            ({"Data": "aGk", "Encoding": "base64"}, "Files.f.Data: Data is not base64"),
            ({"Data": "aG k=", "Encoding": "base64"}, "Files.f.Data: Data is not base64"),
            ({"Data": "aGkä", "Encoding": "base64"}, "Files.f.Data: Data is not base64"),
            ({"Data": "abc", "Encoding": "hex"}, "Files.f.Data: Data is not hex"),
            ({"Data": "0 ", "Encoding": "hex"}, "Files.f.Data: Data is not hex"),
            ({"Data": 1}, "Files.f.Data: wrong type"),
        ],
    )
    def test_bad_encodings(self, file, message):
        assert message in refused_parameters(Files={"f": file})

    def test_a_template_may_be_encoded(self):
        data = base64.b64encode(b"\xff{{ hex .Secrets.key }}").decode()
        manifest = load_with(
            files={"f": {"Data": data, "Encoding": "base64"}}, secrets={"key": {"Type": "symmetric-key", "Size": 8}}
        )
        assert isinstance(manifest.marbles["frontend"].parameters.files["f"].content, Template)
        assert manifest.marbles["frontend"].references == {"key"}

    def test_parameters_fit_into_a_message(self):
        large = {"Type": "symmetric-key", "Size": 65280}
        four = "{{ hex .Secrets.large }}" * 4
        message = refusal(
            Secrets={"large": large},
            Marbles={"a": {"Package": "shop", "Parameters": {"Files": {str(i): four for i in range(100)}}}},
        )
        assert message.startswith("Marbles.a.Parameters: parameters are larger than a gRPC message")

    def test_checking_a_small_manifest_costs_little(self):
        bomb = "{{ `" + "\\" * 100 + "`" + " | js" * 15 + " }}"  # 100 backslashes become three million
        marble = {"Package": "shop", "Parameters": {"Env": {"X": bomb}}}
        message = refusal(Marbles={f"m{number}": marble for number in range(1000)})
        assert message.endswith(f"all templates together take more than {MAX_TOTAL_STEPS} steps")

    def test_parameters_of_all_marbles_are_bounded(self):
        large = {"Type": "symmetric-key", "Size": 65280}
        marble = {"Package": "shop", "Parameters": {"Env": {"X": "{{ hex .Secrets.large }}" * 240}}}
        message = refusal(Secrets={"large": large}, Marbles={f"m{number}": marble for number in range(18)})
        assert message.startswith("parameters of all marbles are too large")

    def test_templates_of_all_marbles_take_a_bounded_number_of_steps(self):
        idle = "{{ range 90000 }}{{ end }}"
        load_with(env={str(number): idle for number in range(3)})
        message = refused_parameters(Env={str(number): idle for number in range(10_000)})
        assert message.endswith(f"all templates together take more than {MAX_TOTAL_STEPS} steps")


def refused_parameters(**parameters) -> str:
    return refusal(Marbles={"frontend": {"Package": "shop", "Parameters": parameters}})


class TestSecrets:
    @pytest.mark.parametrize(
        "secret",
        [
            {"Type": "symmetric-key", "Size": 8},
            {"Type": "symmetric-key", "Size": 65280, "Shared": True},
            {"Type": "symmetric-key", "Size": 128, "UserDefined": True},
            *({"Type": "cert-ecdsa", "Size": size} for size in (224, 256, 384, 521)),
            {"Type": "cert-ed25519"},
            {"Type": "cert-ed25519", "Size": 0, "ValidFor": 7},
            {"Type": "cert-rsa", "Size": 1024},
            {"Type": "cert-rsa", "Size": 4096, "Cert": {"NotAfter": "2040-01-01T00:00:00Z"}},
            {"Type": "plain", "UserDefined": True},
            {"Type": "cert-rsa", "Size": 2048, "Private": None, "Public": ""},
        ],
    )
    def test_accepted(self, secret):
        spec = load(Secrets={"s": secret}).secrets["s"]
        assert spec.type is SecretType(secret["Type"])
        assert spec.size == secret.get("Size", 0)
        assert spec.is_unique == (not secret.get("Shared") and not secret.get("UserDefined"))
        assert spec.lifetime_days == secret.get("ValidFor", 365)

    @pytest.mark.parametrize(
        ("secret", "message"),
        [
            ({}, "Secrets.s: unknown type of secret"),
            ({"Type": "Symmetric-Key", "Size": 8}, "Secrets.s.Type: unknown type of secret"),
            ({"Type": "symmetric-key"}, "Secrets.s: size does not fit type symmetric-key"),
            ({"Type": "symmetric-key", "Size": 0}, "Secrets.s.Size: size does not fit"),
            ({"Type": "symmetric-key", "Size": 12}, "size does not fit"),
            ({"Type": "symmetric-key", "Size": 65288}, "size does not fit"),
            ({"Type": "cert-ecdsa"}, "size does not fit"),
            ({"Type": "cert-ecdsa", "Size": 128}, "expected one of 224, 256, 384, 521"),
            ({"Type": "cert-ed25519", "Size": 256}, "expected no size"),
            ({"Type": "cert-rsa", "Size": 1023}, "expected 1024 to 8192 bits"),
            ({"Type": "cert-rsa", "Size": 8193}, "size does not fit"),
            ({"Type": "plain"}, "Secrets.s: secret of type plain is not user-defined"),
            ({"Type": "plain", "Shared": True}, "is not user-defined"),
            ({"Type": "plain", "UserDefined": True, "Size": 8}, "expected no size"),
            ({"Type": "symmetric-key", "Size": 8, "ValidFor": 3}, "ValidFor: only certificates have a ValidFor"),
            ({"Type": "symmetric-key", "Size": 8, "Cert": {"IsCA": True}}, "only certificates have a Cert"),
            (
                {"Type": "cert-ed25519", "ValidFor": 3, "Cert": {"NotAfter": "2040-01-01T00:00:00Z"}},
                "ValidFor and Cert.NotAfter stand together",
            ),
            ({"Type": "cert-ed25519", "ValidFor": 106752}, "Secrets.s.ValidFor: number is out of range"),
            ({"Type": "symmetric-key", "Size": 8, "Private": "AA=="}, "does not belong in a manifest"),
            ({"Type": "symmetric-key", "Size": 8, "Public": [1]}, "does not belong in a manifest"),
        ],
    )
    def test_refused(self, secret, message):
        assert message in refusal(Secrets={"s": secret})

    def test_rsa_keys_are_bounded_all_together(self):
        secret = {"Type": "cert-rsa", "Size": 4096, "Shared": True}
        assert len(load(Secrets={f"s{i}": secret for i in range(16)}).secrets) == 16
        assert "got 69632 bits in all, expected at most 65536" in refusal(Secrets={f"s{i}": secret for i in range(17)})


class TestTemplates:
    """What the dry run finds; the language itself has its own tests."""

    SECRETS = {  # noqa: RUF012  # not changed
        "key": {"Type": "symmetric-key", "Size": 128},
        "tls": {"Type": "cert-ed25519"},
        "note": {"Type": "plain", "UserDefined": True},
        "upload": {"Type": "cert-rsa", "Size": 2048, "UserDefined": True},
    }

    @pytest.mark.parametrize(
        "template",
        [
            "{{ pem .Secrets.tls.Cert }}{{ pem .Secrets.tls.Private }}{{ pem .Secrets.tls.Public }}",
            "{{ hex .Secrets.key }}{{ base64 .Secrets.key.Private }}{{ hex .Secrets.tls }}{{ hex .Secrets.note }}",
            "{{ pem .Secrets.upload.Cert }}{{ .Previous.Secrets.key | hex }}",
            "{{ pem .MarbleRun.RootCA.Cert }}{{ hex .MarbleRun.MarbleCert.Public }}",
            "{{ pem .MarbleRun.MarbleCert.Cert }}{{ pem .MarbleRun.MarbleCert.Private }}",
            "{{ pem .MarbleRun.CoordinatorRoot.Cert }}{{ js (pem .MarbleRun.CoordinatorIntermediate.Cert) }}",
        ],
    )
    def test_accepted_in_both_kinds(self, template):
        load_with(files={"f": template}, env={"E": template}, secrets=self.SECRETS)

    def test_functions_of_one_kind(self):
        load_with(files={"f": "{{ raw .Secrets.key }}"}, env={"E": "{{ string .Secrets.note }}"}, secrets=self.SECRETS)

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ("{{ hex .Secrets.kee }}", "Env.E: line 1, column 4: hex: secret does not exist"),
            ("\n {{ hex .Secrets.key", "Env.E: line 2, column 2: action has no end"),
            ("{{ raw .Secrets.key }}", "function 'raw' not defined"),
            ("{{ string .Secrets.key }}", "string: needs a secret of type plain"),
            ("{{ pem .Secrets.tls }}", "pem: invalid secret type for pem encoding"),
            ("{{ pem .Secrets.key.Cert }}", "pem: tried to parse secret with empty value"),
            ("{{ hex .MarbleRun.RootCA.Private }}", "hex: tried to parse secret with empty value"),
            ("{{ hex .MarbleRun.Unknown.Cert }}", "there is no field 'Unknown'"),
            ("{{ hex .Unknown }}", "there is no field 'Unknown'"),
            ("{{ if .Secrets.key }}", '"if" has no end'),
        ],
    )
    def test_refused(self, template, message):
        with pytest.raises(ManifestError) as caught:
            load_with(env={"E": template}, secrets=self.SECRETS)
        assert message in str(caught.value)

    def test_string_is_not_a_function_of_files(self):
        with pytest.raises(ManifestError, match="function 'string' not defined"):
            load_with(files={"f": "{{ string .Secrets.note }}"}, secrets=self.SECRETS)

    @pytest.mark.parametrize(
        ("secret", "condition"),
        [
            ({"Type": "symmetric-key", "Size": 8, "Shared": True}, "not .Secrets.s.Shared"),
            ({"Type": "plain", "UserDefined": True}, "not .Secrets.s.UserDefined"),
            ({"Type": "cert-ed25519", "ValidFor": 7}, "ne .Secrets.s.ValidFor 7"),
            ({"Type": "cert-ecdsa", "Size": 521}, "ne .Secrets.s.Size 521"),
        ],
    )
    def test_placeholders_have_the_definition_of_their_secret(self, secret, condition):
        load_with(env={"E": f"{{{{ if {condition} }}}}{{{{ hex .Secrets.none }}}}{{{{ end }}}}"}, secrets={"s": secret})

    def test_values_stand_in_place_of_placeholders(self):
        manifest = load_with(env={"E": "{{ string .Secrets.note }}"}, secrets=self.SECRETS)
        for value in (b"fine", b"with \0", b""):
            uploaded = SecretValue(
                type=SecretType.PLAIN, user_defined=True, private=Secret(value), public=Secret(value)
            )
            if value == b"fine":
                check_templates(manifest.marbles, manifest.secrets, {"note": uploaded})
                continue
            with pytest.raises(TemplateError, match=r"Marbles\.frontend\.Parameters\.Env\.E"):
                check_templates(manifest.marbles, manifest.secrets, {"note": uploaded})

    def test_no_templates_means_none(self):
        manifest = load_with(env={"E": {"Data": "{{ oh no", "NoTemplates": True}})
        assert manifest.marbles["frontend"].parameters.env["E"].content == b"{{ oh no"
