"""Which libwebsockets the tests run against: ours, patched, or the system's as it is."""

from __future__ import annotations

from uvws._core import ffi, lib

# What fails without our patches, by the name of the test function. The reasons are those of the
# patches: csrc/lws-patches.
NEEDS_PATCHES: frozenset[str] = frozenset(
    {
        "test_a_close_behind_data_that_nobody_reads_is_given_up",
        "test_a_dead_peer_releases_what_was_queued_for_it",
        "test_a_header_named_like_the_beginning_of_another_is_itself",
        "test_a_header_that_announces_too_much_is_enough",
        "test_a_large_payload_sent_often_is_held_once",
        "test_a_message_in_the_segment_of_the_request_arrives",
        "test_a_message_over_the_limit_ends_the_connection_with_1009",
        "test_a_peer_may_close_while_a_large_message_is_on_its_way",
        "test_a_peer_that_broke_the_protocol_is_not_waited_for",
        "test_a_peer_that_closes_without_reading_is_heard",
        "test_a_peer_that_ends_instead_of_answering_our_close_is_1006",
        "test_a_ping_is_answered_between_messages_not_inside_one",
        "test_a_proxy_is_never_taken_for_the_server",
        "test_a_server_that_goes_away_at_once_is_an_error",
        "test_a_unix_socket_that_is_not_there",
        "test_a_violation_after_good_messages_does_not_take_them_back",
        "test_a_websockets_client_of_any_subprotocol_gets_through",
        "test_an_end_in_the_midst_of_sending_is_1006",
        "test_an_unknown_subprotocol_is_no_reason_to_refuse",
        "test_both_sides_are_told_the_code",
        "test_breaking_the_protocol_is_answered_with_1002",
        "test_closing_the_context_does_not_wait_for_a_peer_that_does_not_read",
    }
)


def is_patched() -> bool:
    """Tell whether libwebsockets has our patches."""
    return bool(ffi.string(lib.uvws_lws_patches()))
