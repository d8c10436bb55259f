"""Which libwebsockets the tests run against: ours, patched, or the system's as it is."""

from __future__ import annotations

import pytest
from uvws._core import ffi, lib

# lws closes connections that use the bit RSV1, but for a patch.
compresses = pytest.mark.skipif(
    not lib.uvws_has_deflate(), reason="this libwebsockets does not let compression through"
)

# What fails without our patches, by the name of the test function. The reasons are those of the
# patches: csrc/lws-patches.
NEEDS_PATCHES: frozenset[str] = frozenset(
    {
        "test_a_client_that_is_given_several_in_one_line_fails",
        "test_a_client_that_is_given_several_in_several_lines_fails",
        "test_a_client_that_reads_slowly_gets_all_of_a_large_body",
        "test_a_close_behind_data_that_nobody_reads_is_given_up",
        "test_a_compressed_message_behind_the_request",
        "test_a_compressing_client_of_another_package",
        "test_a_dead_peer_releases_what_was_queued_for_it",
        "test_a_handshake_that_breaks_the_rules_is_refused",
        "test_a_head_that_is_too_large_is_answered_with_431",
        "test_a_header_named_like_the_beginning_of_another_is_itself",
        "test_a_header_that_announces_too_much_is_enough",
        "test_a_hundred_subprotocols_can_be_offered",
        "test_a_large_payload_sent_often_is_held_once",
        "test_a_line_that_is_no_header_fails_the_handshake",
        "test_a_line_that_is_no_header_is_refused",
        "test_a_line_that_is_no_request_is_refused",
        "test_a_long_subprotocol_can_be_agreed_on",
        "test_a_long_subprotocol_that_is_not_spoken_does_no_harm",
        "test_a_malformed_offer_is_no_match",
        "test_a_message_in_the_segment_of_the_end_of_the_request_arrives",
        "test_a_message_in_the_segment_of_the_request_arrives",
        "test_a_message_over_the_limit_ends_the_connection_with_1009",
        "test_a_method_that_nobody_implements_is_refused",
        "test_a_peer_may_close_while_a_large_message_is_on_its_way",
        "test_a_peer_that_broke_the_protocol_is_not_waited_for",
        "test_a_peer_that_closes_behind_a_full_socket_is_answered",
        "test_a_peer_that_closes_without_reading_is_heard",
        "test_a_peer_that_ends_instead_of_answering_our_close_is_1006",
        "test_a_ping_is_answered_between_messages_not_inside_one",
        "test_a_pong_between_fragments_does_not_disturb_them",
        "test_a_pong_is_told_in_order_with_messages",
        "test_a_pong_that_nobody_asked_for_arrives",
        "test_a_proxy_is_never_taken_for_the_server",
        "test_a_refusal_comes_with_its_phrase_and_headers",
        "test_a_refusal_of_http_1_0_is_told_too",
        "test_a_repeated_header_of_the_users_own_keeps_its_values",
        "test_a_response_head_without_end_is_given_up",
        "test_a_response_with_more_headers_than_there_is_room_for_fails",
        "test_a_server_that_goes_away_at_once_is_an_error",
        "test_a_subprotocol_other_than_those_offered_fails",
        "test_a_target_in_absolute_form_is_its_path_and_query",
        "test_a_target_that_names_no_path_is_refused",
        "test_a_unix_socket_that_is_not_there",
        "test_a_unix_socket_where_nobody_listens",
        "test_a_violation_after_good_messages_does_not_take_them_back",
        "test_a_violation_behind_the_request_ends_it_with_1002",
        "test_a_websockets_client_gets_its_subprotocol",
        "test_a_websockets_client_of_any_subprotocol_gets_through",
        "test_an_answer_that_is_not_http_is_shown",
        "test_an_empty_ping_is_answered_with_an_empty_pong",
        "test_an_end_in_the_midst_of_sending_is_1006",
        "test_an_end_within_the_head_is_told",
        "test_an_end_without_any_answer_is_told",
        "test_an_unknown_subprotocol_is_no_reason_to_refuse",
        "test_another_version_of_http_fails_the_handshake",
        "test_as_many_headers_as_are_allowed_arrive",
        "test_both_ends_agree_on_the_subprotocol",
        "test_both_sides_are_told_the_code",
        "test_both_stay_known_in_on_close_and_after_it",
        "test_both_stay_known_when_the_context_is_closed",
        "test_breaking_the_protocol_is_answered_with_1002",
        "test_closing_the_context_does_not_wait_for_a_peer_that_does_not_read",
        "test_closing_while_a_lot_waits_to_be_read",
        "test_frames_behind_the_request_arrive_although_the_answer_is_large",
        "test_headers_arrive_in_their_order_and_spelling",
        "test_headers_of_the_listener_are_in_every_answer",
        "test_libwebsockets_tells_of_the_handshake",
        "test_lines_that_end_without_a_carriage_return_are_refused",
        "test_listeners_of_one_context_each_have_their_own_say",
        "test_one_that_breaks_the_rules_ends_the_connection_with_1002",
        "test_over_tls_the_server_has_the_same_say",
        "test_response_headers_arrive_in_their_order_and_spelling",
        "test_several_are_adopted_at_once",
        "test_several_pongs_in_one_segment_are_all_told",
        "test_subprotocols_may_be_offered_in_several_header_lines",
        "test_the_lines_of_several_threads_stay_whole",
        "test_the_path_arrives_as_it_was_sent",
        "test_the_query_arrives_as_it_was_sent",
        "test_the_query_arrives_with_its_escapes",
        "test_the_rest_may_come_byte_by_byte",
        "test_the_servers_order_of_preference_decides",
        "test_the_subprotocols_offered_are_in_the_request_headers",
        "test_there_is_no_subprotocol",
        "test_upgrade_and_connection_are_lists",
        "test_what_breaks_the_rules_is_shown",
        "test_what_cannot_become_a_request_is_refused_before_its_end",
        "test_what_does_not_ask_for_a_websocket_is_told_to_upgrade",
        "test_what_was_read_comes_before_what_is_on_the_socket",
        "test_with_no_subprotocol_in_common_it_goes_on_without_one",
        "test_without_a_match_neither_end_has_a_subprotocol",
        "test_without_upgrade_or_connection_it_is_a_plain_request",
    }
)


def is_patched() -> bool:
    """Tell whether libwebsockets has our patches."""
    return bool(ffi.string(lib.uvws_lws_patches()))
