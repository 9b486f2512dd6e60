"""The hostile inputs that are tested, by number: what comes, what is expected, and the tests that send it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Input:
    """One kind of hostile input. tests: as file::function, without folder and .py; by all of them together."""

    what: str
    expected: str
    tests: tuple[str, ...]


R, F, S = "test_receive::test_", "test_receive_fast::test_", "test_studies::test_"
P, D = "test_pixels::test_", "test_disk::test_"

INPUTS: dict[int, Input] = {
    1: Input("unknown calling or called AE title", "A-ASSOCIATE-RJ", (
        S + "1_unknown_titles_and_2_addresses_are_rejected", R + "an_echo_of_a_wrong_called_title_is_rejected_below_too")),
    2: Input("address that is not admitted", "not accepted", (S + "1_unknown_titles_and_2_addresses_are_rejected",)),
    3: Input("20 silent TCP connections", "closed in time; take nobody's place", (
        R + "silent_connections_take_no_ones_place",
        R + "however_many_silent_connections_of_one_address_there_are_a_sender_of_that_address_gets_in")),
    4: Input("silent TLS connection", "closed in time", (
        "../unit/test_tls_handshake::test_a_handshake_ends_with_its_time",)),
    5: Input("request or PDU that comes drop by drop", "closed or aborted in time", (
        R + "a_request_that_comes_drop_by_drop_is_cut_off",
        F + "a_peer_that_falls_silent_in_the_middle_of_an_object_is_cut_off")),
    6: Input("PDU length of 2^31", "cut off at once", (
        R + "a_pdu_longer_than_agreed_is_cut_off_at_once",
        F + "a_pdu_longer_than_agreed_in_the_middle_of_an_object_is_cut_off_at_once")),
    7: Input("PDU of unknown type", "A-ABORT", (
        R + "what_is_no_association_request_is_cut_off", R + "nonsense_on_an_association_ends_it")),
    8: Input("200 presentation contexts, IDs twice, even or none", "A-ASSOCIATE-RJ, or cut off", (
        R + "contexts_are_answered_or_rejected_or_cut_off",)),
    9: Input("C-STORE without a data set", "0xC000 or abort", (
        R + "bytes_that_are_no_data_set", R + "a_data_set_that_is_announced_and_never_comes")),
    10: Input("identifier that is no UID", "0xC000; no file", (
        R + "an_identifier_that_is_no_uid", R + "an_identifier_in_the_command_that_is_no_uid")),
    11: Input("PatientID that is a path or a script", "assessed; escaped; in no file name", (S + "odd_texts_do_no_harm",)),
    12: Input("instance UID unlike the command's", "0xA900", (R + "command_context_and_data_set_that_disagree",)),
    13: Input("SOP class unlike the context's", "0xA900", (R + "command_context_and_data_set_that_disagree",)),
    14: Input("random bytes", "0xC000", (R + "bytes_that_are_no_data_set", R + "many_kinds_of_random_damage")),
    15: Input("pixels cut off, length that lies", "0xC000, or not assessed: unreadable_pixels", (
        R + "a_length_that_passes_the_end",
        S + "images_that_describe_themselves_wrongly_are_not_assessed_and_say_why")),
    16: Input("sequences nested 5000 deep", "0xC000", (R + "sequences_nested_without_end",)),
    17: Input("deflated transfer syntax", "context not accepted", (R + "contexts_that_are_not_taken",)),
    18: Input("bombs and corrupt codestreams, no offset table", "not assessed; decoder replaced; table not needed", (
        P + "bombs_and_broken_codestreams_are_refused", P + "a_decoder_that_fails_takes_only_its_study_with_it",
        P + "a_frame_without_an_offset_table_is_read", P + "a_study_that_is_too_large_when_decoded_is_refused_before")),
    19: Input("Rows, bits and high bit that contradict", "not assessed: invalid_pixel_description", (
        S + "images_that_describe_themselves_wrongly_are_not_assessed_and_say_why",)),
    20: Input("a million frames", "not assessed: multiframe", (
        S + "images_that_describe_themselves_wrongly_are_not_assessed_and_say_why",)),
    21: Input("impossible spacing or orientation", "not assessed: invalid_geometry", (
        S + "images_that_describe_themselves_wrongly_are_not_assessed_and_say_why",)),
    22: Input("rescale slope of 0, absent, not a number", "not assessed: invalid_rescale", (
        S + "images_that_describe_themselves_wrongly_are_not_assessed_and_say_why",)),
    23: Input("same UID again, same and other bytes", "success; the other one in quarantine", (
        S + "23_a_duplicate_is_idempotent_and_a_changed_one_set_aside",)),
    24: Input("one study, two patients", "held; no result", (S + "24_one_study_of_two_patients_is_held",)),
    25: Input("program in the preamble", "zeros in the file", (S + "25_a_program_in_the_preamble_does_not_come_along",)),
    26: Input("encapsulated PDF, unknown class", "context not accepted", (R + "contexts_that_are_not_taken",)),
    27: Input("unknown or mixed character sets", "kept as they came; assessed", (
        S + "odd_texts_do_no_harm", S + "27_bytes_that_are_not_of_their_character_set_are_kept")),
    28: Input("full disk", "rejected, or 0xA700; not ready; nothing lost", (
        D + "below_the_mark_senders_are_rejected_for_now_and_echoes_are_answered", D + "readiness_is_false_below_the_mark",
        D + "a_disk_that_is_really_full_loses_nothing_that_was_acknowledged")),
    29: Input("abort in the middle of an object", "no file stays", (F + "an_object_that_breaks_off_leaves_nothing",)),
    30: Input("study of too many images or bytes", "0xA700; not assessed: study_too_large", (
        D + "a_study_that_is_too_large_is_refused_from_there_on_and_said_to_be",)),
    31: Input("report of an unknown commitment, huge list", "success, ignored; 0x0115 past 10,000", (
        S + "31_reports_of_unknown_transactions_are_ignored_and_huge_ones_refused",)),
    32: Input("own SR and picture sent back", "success; ignored", (
        S + "32_own_results_that_come_back_and_36_captures_are_no_input",)),
    33: Input("HTTP: gzip bomb, huge length, traversal, foreign origin and host", "4xx", (
        S + "33_requests_of_web_attackers",)),
    34: Input("PACS that is away, aborts or refuses", "tried again; parked", (
        S + "34_a_pacs_that_misbehaves_delays_or_parks_the_result",)),
    35: Input("future, missing, impossible dates", "assessed", (S + "odd_texts_do_no_harm",)),
    36: Input("secondary capture with burned-in text", "success; no input", (
        S + "32_own_results_that_come_back_and_36_captures_are_no_input",)),
}
