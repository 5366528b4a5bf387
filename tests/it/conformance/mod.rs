//! One list of cases, run against every implementation of `Node`: each case is one rule of
//! `specs/node.md`.

mod append;
mod claim;
mod copy;
mod delete;
mod due;
mod end;
pub(crate) mod env;
mod hold;
mod identity;
pub(crate) mod ops;
mod pick;
mod read;
mod redis_env;
mod register;
mod watch;

/// Makes a test of each case for one implementation.
macro_rules! suite {
    ($name:ident: $implementation:ty; $($module:ident { $($case:ident,)* })*) => {
        mod $name {
            $(
                mod $module {
                    $(
                        #[tokio::test]
                        async fn $case() {
                            let env =
                                crate::conformance::env::Env::new::<$implementation>().await;
                            crate::conformance::$module::$case(&env).await;
                        }
                    )*
                }
            )*
        }
    };
}

/// The list, once; each implementation is a line at its end.
macro_rules! cases {
    ($($cases:tt)*) => {
        suite! { memory: crate::conformance::env::Memory; $($cases)* }
        suite! { faulty: crate::conformance::env::FaultyWithEmptyPlan; $($cases)* }
        suite! { redis: crate::conformance::redis_env::Redis; $($cases)* }
    };
}

cases! {
    identity {
        identity_tells_the_cookie_and_its_run_id,
        the_same_cookie_again_changes_nothing,
        a_newer_incarnation_replaces_the_cookie,
        a_newer_incarnation_forgets_all_replicas,
        a_newer_incarnation_is_no_keeper,
        an_older_incarnation_is_refused,
        a_cookie_of_another_pool_or_node_is_refused,
        admission_under_another_run_id_is_refused,
        whoever_means_another_cookie_is_told_the_one_held,
        a_flushed_node_is_a_stranger_without_cookie,
        a_node_restarted_empty_is_a_stranger_without_cookie,
        a_node_restarted_with_data_is_a_stranger_with_its_cookie,
        the_same_cookie_does_not_bring_a_restarted_node_back,
        an_absent_replica_is_gone,
        a_stranger_is_told_so_before_a_replica_is_gone,
        a_placement_in_use_cannot_be_opened,
        a_refused_op_does_not_keep_the_next_ones_from_being_applied,
    }
    append {
        a_producers_next_block_is_taken,
        append_below_the_next_block_is_taken_as_done,
        a_block_taken_before_is_taken_as_done_when_sealed,
        the_newest_block_with_other_bytes_is_a_conflict,
        an_older_block_is_not_compared,
        a_block_beyond_the_next_is_a_gap,
        each_producer_has_its_own_blocks,
        a_sealed_replica_takes_no_block_whatever_its_number,
        a_joining_replica_takes_no_block,
        a_49th_producer_is_refused,
        nothing_stays_of_a_block_for_which_there_is_no_memory,
        a_full_node_still_answers_and_deletes,
        a_block_notes_what_was_acked_and_notes_never_fall,
        a_note_is_never_above_the_frontier,
        a_block_taken_as_done_notes_too,
        a_note_alone_is_taken_open_and_sealed,
        a_note_of_an_unknown_producer_changes_nothing,
        bytes_count_the_blocks_as_they_arrived_and_never_fall,
        what_is_no_block_holds_no_message,
    }
    end {
        the_first_sealer_is_remembered,
        a_joining_replica_is_sealed_by_nobody_at_its_opening,
        telling_the_end_seals_an_open_replica,
        telling_the_end_keeps_the_first_sealer,
        an_end_that_is_not_covered_is_a_gap_and_changes_nothing,
        blocks_above_the_end_cease_to_exist,
        an_end_lowers_notes,
        an_end_may_be_told_again_with_a_lower_one_but_no_higher,
        a_block_that_a_lower_end_made_the_newest_is_not_compared,
        what_needs_a_seal_is_refused_on_an_open_replica,
        what_needs_the_end_is_refused_before_it_is_told,
        stats_work_on_an_open_replica,
        a_joining_replica_takes_holds_deletes_and_renewals,
        a_lower_version_is_stale_and_a_higher_one_raises_it,
        a_release_is_never_stale,
        the_state_is_checked_before_the_version,
        a_refused_renewal_raises_no_version,
    }
    read {
        a_page_is_in_the_order_of_arrival,
        an_entry_tells_what_was_posted,
        a_page_stops_within_a_block_after_its_last_entry,
        a_page_that_stops_after_a_blocks_last_message_has_passed_the_block,
        unwanted_messages_behind_the_last_entry_are_not_passed,
        a_page_stops_before_an_entry_that_is_too_much,
        the_first_entry_is_given_however_large,
        a_block_of_which_nothing_was_passed_is_not_named,
        a_limit_of_0_counts_as_1,
        a_reader_may_leave_out_what_a_client_posted,
        a_reader_may_leave_out_what_is_claimed,
        a_reader_may_leave_out_what_is_delayed,
        deleted_and_expired_messages_are_left_out_but_their_blocks_named,
        blocks_dropped_by_an_end_leave_nothing,
        a_page_names_at_most_1024_blocks,
        a_page_without_any_block_ends_where_it_began,
        a_page_may_start_behind_a_blocks_last_message,
        a_block_of_256_messages_is_read_to_its_end,
        a_message_is_got_whether_claimed_or_delayed,
        what_ended_expired_or_never_came_is_not_got,
        stats_count_each_message_once,
        bytes_are_those_of_what_is_left,
        stats_of_an_empty_replica_name_no_message,
    }
    pick {
        a_pick_marks_the_first_messages_by_arrival,
        a_pick_passes_over_what_is_ended_expired_delayed_or_held,
        a_message_can_be_picked_once_its_delay_has_passed,
        a_repeated_pick_returns_the_same_messages_and_rank,
        a_repeated_pick_leaves_out_what_was_deleted_or_released,
        a_repeated_pick_finds_its_claim_on_a_later_replica,
        a_pick_takes_from_the_first_replica_that_has_some,
        a_pick_names_the_replicas_refused_on_the_way,
        a_pick_that_finds_nothing_changes_nothing,
        a_picks_rank_is_the_requests_version_and_the_replicas_count,
        a_pick_stops_before_a_message_that_is_too_much,
        a_marked_message_outlives_its_claim_by_the_grace,
        an_expired_claims_messages_can_be_picked_again,
        an_expired_claims_key_can_pick_anew,
        released_messages_are_picked_before_later_ones,
    }
    hold {
        a_hold_marks_what_nobody_marked,
        what_ended_expired_or_never_came_cannot_be_held,
        nothing_held_records_no_claim,
        holding_again_restarts_the_time_but_does_not_count,
        holding_an_expired_claim_again_revives_it,
        a_live_claim_outranks_a_higher_rank,
        an_expired_claim_outranks_the_same_and_lower_ranks_only,
        the_version_comes_before_the_count_in_a_rank,
        a_late_hold_does_not_take_back_a_release,
        each_message_of_a_hold_is_judged_alone,
        a_held_message_outlives_the_claim_by_the_grace,
        a_key_recorded_under_another_rank_lets_its_earlier_messages_go,
        a_joining_replica_remembers_holds_of_unknown_blocks,
        a_remembered_hold_keeps_its_message_alive,
        a_remembered_hold_can_be_released_before_its_block_comes,
        a_replica_that_knows_its_end_remembers_nothing,
    }
    claim {
        some_messages_of_a_claim_can_be_released,
        releasing_all_ends_the_claim,
        a_release_does_not_touch_other_claims,
        a_renewal_restarts_the_claim,
        a_renewal_can_shorten_a_claim,
        a_renewal_keeps_messages_alive,
        a_renewal_counts_what_has_not_ended,
        a_claim_is_its_key_and_its_rank,
        an_expired_claim_is_none,
        a_claim_is_read_by_arrival,
        a_claim_whose_messages_were_all_deleted_is_still_there,
    }
    delete {
        what_is_deleted_has_ended_and_is_absent_then,
        what_expired_or_never_came_is_absent,
        an_unclaimed_delete_is_refused_by_a_live_claim,
        a_delete_under_a_claim_needs_that_very_claim,
        a_delete_under_an_expired_claim_is_refused,
        a_delete_may_be_made_whether_claimed_or_not,
        a_delete_tells_how_many_messages_are_left,
        a_delete_before_its_block_leaves_a_tombstone,
    }
    copy {
        a_copy_has_the_same_messages_under_its_own_ordinals,
        copied_bytes_are_counted_as_they_arrive,
        a_batch_ends_at_its_bytes_and_goes_on_from_next,
        a_batch_has_at_most_1024_blocks,
        a_block_whose_messages_all_ended_travels_without_bytes,
        ended_messages_of_a_block_do_not_travel,
        a_claim_travels_with_its_time_left,
        a_released_or_expired_mark_travels_without_time,
        a_copy_that_leaves_a_gap_is_refused_whole,
        a_copy_above_the_told_end_is_passed_over,
        a_copy_of_an_older_version_is_refused,
        a_copy_for_which_there_is_no_memory_is_refused_whole,
        a_copied_block_is_not_compared,
        merged_messages_end_if_they_ended_on_either_side,
        a_block_without_bytes_ends_all_its_messages,
        an_expired_message_does_not_come_back_by_a_copy,
        of_two_lives_the_longer_one_stays,
        of_two_marks_the_higher_rank_stays,
        a_released_mark_of_a_higher_rank_frees_a_message,
        of_two_marks_of_the_same_rank_the_one_with_more_time_stays,
    }
    due {
        an_open_replica_with_messages_is_not_due_when_they_expire,
        an_open_replica_with_messages_can_be_deferred,
        a_replica_never_written_to_is_not_due_at_once,
        a_sealed_replica_is_due_when_its_last_message_has_expired,
        a_sealed_replica_is_due_at_once_when_nothing_is_left,
        an_end_that_leaves_nothing_makes_a_replica_due,
        an_extended_life_counts,
        a_deferred_replica_is_not_named_until_then,
        what_is_due_earliest_is_named_first,
        a_replica_filled_with_ended_blocks_only_is_due,
        a_wiped_replica_is_gone_and_not_due,
        a_replica_that_never_was_is_wiped,
        a_wipe_removes_at_most_512_blocks_a_call,
    }
    register {
        a_node_that_keeps_nothing_is_no_keeper,
        a_fresh_keeper_casts_no_vote,
        an_activated_keeper_votes,
        keeping_in_a_later_epoch_replaces_the_set_and_keeps_the_vote,
        keeping_in_the_same_epoch_changes_nothing,
        keeping_in_an_earlier_epoch_is_refused,
        another_epoch_is_refused,
        a_promise_is_for_higher_ballots_only,
        a_value_is_accepted_at_or_above_the_promise,
        a_promise_tells_what_was_accepted,
        several_registers_are_read_at_once,
        changes_name_each_register_by_its_latest_change,
        changes_since_beyond_the_counter_are_all_changes,
        promises_and_refused_values_are_no_changes,
        registers_are_listed_under_their_project_by_name,
        a_register_is_unlisted_with_the_value_that_says_so,
        a_dump_tells_all_of_each_register_by_name,
        a_keeper_without_vote_is_restored_by_the_higher_ballots,
        a_voting_keeper_is_not_restored,
    }
    watch {
        a_watch_tells_of_an_append,
        a_watch_tells_of_a_note_a_seal_and_an_end,
        a_watch_tells_of_claims_and_of_what_is_given_back,
        a_watch_tells_of_the_replicas_beginning_and_end,
        all_who_watch_a_replica_are_told,
        looking_at_a_replica_tells_nobody,
        a_watch_tells_that_all_data_was_deleted,
        a_watch_tells_that_the_server_was_restarted,
    }
}
