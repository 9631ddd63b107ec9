"""What clients, marbles and states of MarbleRun 1.9.1 rely on, and the tests that show that it is so here.

Labels of Kubernetes pods belong to MarbleRun's injector, which is not part of this project.
"""

from __future__ import annotations

import itertools

from named_tests import known_tests, missing

HERE = "tests/coordinator/test_conformance.py"
API, CORE = "tests/coordinator", "tests/coordinator_core"

CHECKLIST = {
    "proto package, service, method and field numbers; codes and messages of an activation": [
        f"{HERE}::test_an_activation_byte_by_byte",
        f"{HERE}::test_codes_and_messages_of_refusals_in_their_order",
        f"{API}/test_marble_api.py::test_before_the_manifest_nobody_is_activated",
        f"{API}/test_marble_api.py::test_the_limit_of_a_type_counts_every_activation_and_survives_restarts",
        f"{API}/test_marble_api.py::test_grpcio_marbles_are_served_too",
        f"{API}/test_key_handover.py::test_the_wire_is_marbleruns",
    ],
    "mesh TLS: any client certificate, h2, Marble Root as leaf; client TLS: a certificate is optional, root as leaf": [
        f"{API}/test_any_client_cert.py::test_any_certificate_is_taken_and_shown",
        f"{API}/test_any_client_cert.py::test_without_a_certificate_the_client_is_told_why",
        f"{API}/test_any_client_cert.py::test_an_optional_certificate_may_be_missing",
        f"{API}/test_any_client_cert.py::test_old_protocols_and_other_ciphers_are_refused",
        f"{API}/test_client_api.py::test_the_server_shows_the_root_itself",
        f"{API}/test_client_api.py::test_a_client_certificate_is_welcome_and_not_checked",
        f"{HERE}::test_the_mesh_shows_the_marble_root",
    ],
    "REST paths, envelope, content types, status codes": [
        f"{API}/test_client_api_table.py::test_before_there_is_a_manifest",
        f"{API}/test_client_api_table.py::test_for_strangers",
        f"{API}/test_client_api_table.py::test_for_a_user",
        f"{API}/test_client_api_table.py::test_anything_else_is_405",
        f"{API}/test_client_api_table.py::test_an_invalid_manifest_in_both_versions",
        f"{API}/test_client_api_recovery.py::test_the_old_endpoint_is_gone_for_good",
        f"{API}/test_envelope.py::test_the_three_outcomes",
    ],
    "JSON as Go reads and writes it": [
        f"{API}/test_client_api_requests.py::test_names_are_folded_as_go_folds_them",
        f"{API}/test_client_api_requests.py::test_bytes",
        f"{API}/test_envelope.py::test_json_is_written_as_go_writes_it",
        f"{API}/test_client_api_table.py::test_what_a_manifest_says_is_escaped_as_go_does",
        f"{API}/test_client_api_table.py::test_the_bytes_on_the_wire",
        f"{CORE}/test_manifest_document.py::test_keys_are_case_insensitive_as_in_go",
    ],
    "status codes and messages, texts of errors": [
        f"{API}/test_client_api.py::test_status_in_both_versions",
        f"{API}/test_coordinator_state.py::test_phases_have_marbleruns_numbers",
        f"{API}/test_client_api_updates.py::test_package_updates_that_do_not_fit",
        f"{API}/test_client_api_secrets.py::test_uploads_that_do_not_fit",
        f"{API}/test_client_api_features.py::test_who_is_no_marble",
    ],
    "a manifest's raw bytes, its fingerprint, and the root key's signature over them": [
        f"{API}/test_client_api.py::test_the_manifest_comes_back_as_it_went_in_and_signed",
        f"{CORE}/test_manifest_document.py::test_the_raw_bytes_are_the_identity",
    ],
    "templates": [
        f"{HERE}::test_the_original_demo_of_2021",
        f"{CORE}/test_templates.py::test_js_escapes_as_go_does",
        f"{CORE}/test_templates.py::test_rendering",
        f"{CORE}/test_manifest_rules.py::TestTemplates::test_refused",
        f"{CORE}/test_manifest_rules.py::TestTemplates::test_functions_of_one_kind",
        f"{CORE}/test_manifest_rules.py::TestTemplates::test_no_templates_means_none",
        f"{CORE}/test_manifest_rules.py::TestMarbles::test_encodings",
    ],
    "reserved variables, chain, PKCS#8 PEM, TTLS": [
        f"{HERE}::test_reserved_variables",
        f"{HERE}::test_ttls_of_the_original_demo",
        f"{CORE}/test_parameters.py::TestPredefinedVariables::test_they_stand_above_the_manifest",
        f"{CORE}/test_secret_lifecycle.py::TestTtls::test_is_what_the_tags_say",
    ],
    "names and extensions of certificates": [
        f"{HERE}::test_names_and_the_marble_type_in_der",
        f"{CORE}/test_authority.py::TestCertificates::test_marblerun_names_and_extensions",
        f"{CORE}/test_authority.py::TestMarbleCertificate::test_both_chains_hold",
        f"{API}/test_marble_api.py::test_its_certificate_leads_to_both_roots",
    ],
    "the formula of unique keys, defaults of certificates": [
        f"{HERE}::test_a_unique_key_follows_from_the_sealed_root_secret",
        f"{HERE}::test_defaults_of_a_certificate_secret",
        f"{CORE}/test_secrets.py::TestUniqueSymmetric::test_against_an_independent_computation",
        f"{CORE}/test_secret_certificates.py::TestDefaults::test_of_marblerun",
    ],
    "recovery: OAEP, XOR and Shamir, signatures, ephemeral key, lengths": [
        f"{API}/test_client_api_recovery.py::test_two_holders_recover_the_state",
        f"{API}/test_client_api_recovery.py::test_shares_may_come_encrypted",
        f"{API}/test_whole_life.py::test_set_activate_update_secrets_recover",
        f"{CORE}/test_recovery_data_key.py::test_some_of_several_holders",
        f"{CORE}/test_recovery_shamir.py::test_against_a_slow_implementation",
        f"{CORE}/test_recovery_session.py::TestListedShares::test_old_keys_of_16_bytes",
        f"{CORE}/test_recovery_session.py::test_what_has_no_secrets_length",
    ],
    "restart from the seal directory; without sealed_key it recovers": [
        f"{API}/test_client_api.py::test_a_restart_keeps_roots_manifest_and_secrets",
        f"{API}/test_sealed_state.py::test_another_machine_locks_and_a_missing_key_too",
        f"{API}/test_sealing_format.py::test_data_of_marbleruns_are_read",
        f"{API}/test_sealed_state.py::test_a_state_of_marbleruns_has_no_number",
        f"{API}/test_coordinator_state.py::test_records_have_marbleruns_keys",
        f"{HERE}::test_a_unique_key_follows_from_the_sealed_root_secret",
    ],
    "users by the bytes of their certificates; updates by several; lines of the update log": [
        f"{CORE}/test_manifest_sections.py::TestUsers::test_known_by_the_bytes_of_the_certificate",
        f"{API}/test_client_api_secrets.py::test_an_expired_certificate_is_still_its_users",
        f"{API}/test_client_api_updates.py::test_a_full_update_waits_for_everybody",
        f"{HERE}::test_lines_of_the_update_log",
        f"{HERE}::test_names_do_not_break_the_lines_of_the_update_log",
    ],
    "names of metrics, environment variables and their defaults": [
        f"{HERE}::test_names_of_metrics",
        f"{HERE}::test_environment_variables",
        f"{API}/test_monitoring.py::test_every_metric_of_marblerun_is_there",
        f"{API}/test_monitoring.py::test_an_activation_in_marbleruns_shape_with_what_was_attested",
        f"{API}/test_coordinator_settings.py::test_defaults_are_marbleruns",
    ],
}


def test_every_line_has_a_test():
    assert all(CHECKLIST.values())
    named = [*itertools.chain(*CHECKLIST.values())]
    assert missing(named) == []
    assert known_tests(HERE) - set(named) == set()
