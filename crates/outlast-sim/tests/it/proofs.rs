//! Where each row of `tests/vectors/sim.json` is proved.

use std::collections::BTreeSet;

use self::Proof::{In, Not};
use crate::rows::all;

enum Proof {
    /// In this file, by this test.
    In(&'static str, &'static str),
    /// Nowhere, for this reason.
    Not(&'static str),
}

/// Every row is here, every test here exists, and every test names its row.
#[test]
fn every_row_has_a_test() {
    let rows = all();
    let rows: BTreeSet<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    let listed: BTreeSet<_> = PROOFS.iter().map(|proof| proof.0).collect();
    assert_eq!(rows, listed);
    for (id, proof) in PROOFS {
        match proof {
            In(file, test) => assert!(
                body(file, test).contains(&format!("\"{id}\"")),
                "{file}::{test} says nothing of {id}"
            ),
            Not(reason) => println!("{id} is not proved: {reason}"),
        }
    }
}

/// The code of a test.
fn body(file: &str, test: &str) -> &'static str {
    let text = FILES.iter().find(|(name, _)| *name == file);
    let (_, text) = text.unwrap_or_else(|| panic!("no file {file}"));
    let begins = format!("fn {test}()");
    let at = text.find(&begins);
    let at = at.unwrap_or_else(|| panic!("{file} has no {test}"));
    let (before, code) = text.split_at(at);
    let (attributes, indent) = before.rsplit_once('\n').unwrap();
    assert!(attributes.ends_with("#[test]"), "{file}::{test} is no test");
    let (body, _) = code.split_once(&format!("\n{indent}}}\n")).unwrap();
    body
}

const FILES: [(&str, &str); 14] = [
    ("availability", include_str!("availability.rs")),
    ("balancing", include_str!("balancing.rs")),
    ("chains", include_str!("chains.rs")),
    ("contention", include_str!("contention.rs")),
    ("determinism", include_str!("determinism.rs")),
    (
        "estimator",
        include_str!("../../../outlast-core/src/shed/estimator.rs"),
    ),
    ("metastable", include_str!("metastable.rs")),
    ("overload", include_str!("overload.rs")),
    ("peers", include_str!("peers.rs")),
    ("queues", include_str!("queues.rs")),
    ("retries", include_str!("retries.rs")),
    ("slo", include_str!("slo.rs")),
    ("storm", include_str!("storm.rs")),
    ("tails", include_str!("tails.rs")),
];

#[rustfmt::skip] // A table: one line for each proof.
const PROOFS: &[(&str, Proof)] = &[
    ("Q01", In("queues", "q01_one_worker")),
    ("Q02", In("queues", "q02_eight_workers")),
    ("Q04", In("queues", "q04_a_constant_time")),
    ("Q06", In("queues", "q06_a_queue_with_a_bound")),
    ("Q07", In("queues", "q07_a_bulkhead_before_any_law")),
    ("Q08", In("queues", "q08_larger_bulkheads")),
    ("Q09", In("queues", "q09_littles_law_holds_for_every_service")),
    ("Q10", In("queues", "q10_answers_within_a_deadline")),
    ("Q11", In("tails", "q11_two_choices_among_many_queues")),
    ("A010", In("contention", "backoffs_need_the_calls_and_the_time_that_were_published")),
    ("A100", In("contention", "backoffs_need_the_calls_and_the_time_that_were_published")),
    ("R01", In("chains", "r01_retries_multiply_along_a_chain")),
    ("R02", In("retries", "r02_amplification_is_that_of_independent_failures")),
    ("B001", In("retries", "b001_to_b100_retries_buckets_and_breakers_of_others")),
    ("B010", In("retries", "b001_to_b100_retries_buckets_and_breakers_of_others")),
    ("B050", In("retries", "b001_to_b100_retries_buckets_and_breakers_of_others")),
    ("B100", In("retries", "b001_to_b100_retries_buckets_and_breakers_of_others")),
    ("B201", In("retries", "b201_many_small_clients_never_empty_their_buckets")),
    ("B202", In("retries", "b202_backoff_bounds_only_clients_that_wait")),
    ("R03", In("retries", "r03_a_budget_that_calls_fill_goes_on_before_a_dead_dependency")),
    ("R04", In("retries", "r04_a_budget_before_a_dead_dependency_allows_next_to_nothing")),
    ("R05", In("retries", "r05_three_attempts_with_and_without_a_budget")),
    ("R06", In("retries", "r06_grpcs_throttle_before_a_dead_server")),
    ("R07", In("retries", "r07_the_quota_of_the_aws_sdks_before_a_dead_server")),
    ("R09", In("peers", "r09_envoys_budget_bounds_the_retries_under_way")),
    ("R10", In("peers", "r10_envoys_admission_control_is_a_throttle")),
    ("R11", In("overload", "r11_a_throttle_sends_k_times_what_is_accepted")),
    ("R12", In("overload", "r12_a_throttle_does_not_throttle_itself")),
    ("R13", In("peers", "r13_the_adaptive_mode_of_the_aws_sdks_is_cubic")),
    ("M01", In("metastable", "m01_without_a_budget_an_outage_lasts_for_ever_from_half_of_the_capacity_on")),
    ("M02", In("metastable", "m02_a_budget_that_successes_fill_cures_it")),
    ("M02", In("metastable", "m02_a_budget_that_calls_fill_cures_it_only_within_the_spare_capacity")),
    ("M04", In("metastable", "m04_a_queue_that_is_longer_than_patience_keeps_an_overload_alive")),
    ("M06", In("metastable", "m06_what_can_be_left_behind_is_the_capacity_over_the_attempts")),
    ("F200a", In("storm", "f200a_without_protection_it_lasts_for_twelve_minutes")),
    ("F200b", In("storm", "f200b_with_a_budget_and_retry_after_it_lasts_for_twenty_seconds")),
    ("F200c", In("storm", "f200c_to_h_each_remedy_by_itself")),
    ("F200d", In("storm", "f200c_to_h_each_remedy_by_itself")),
    ("F200e", In("storm", "f200c_to_h_each_remedy_by_itself")),
    ("F200f", In("storm", "f200c_to_h_each_remedy_by_itself")),
    ("F200h", In("storm", "f200c_to_h_each_remedy_by_itself")),
    ("T01", In("tails", "t01_one_slow_leaf_is_enough")),
    ("T03", In("tails", "t03_a_hedge_at_the_95th_percentile_costs_a_twentieth")),
    ("V01", In("availability", "v01_two_independent_providers")),
    ("V01", In("slo", "two_providers_are_as_available_as_what_they_share_allows")),
    ("V02", In("availability", "v02_two_providers_with_a_cause_in_common")),
    ("V02", In("slo", "two_providers_are_as_available_as_what_they_share_allows")),
    ("V04", In("slo", "silence_is_suspicious_when_the_normal_tail_says")),
    ("V05", In("availability", "v05_minutes_until_a_burn_rate_pages")),
    ("V05", In("slo", "alerts_fire_after_the_minutes_of_the_workbook")),
    ("V06", In("overload", "v06_a_breaker_trips_after_a_run_of_failures")),
    ("V08", In("slo", "a_canary_needs_the_requests_that_wald_says")),
    ("V08", In("slo", "ten_thousand_canaries_are_judged_as_predicted")),
    ("V09", In("availability", "v09_a_timeout_at_a_quantile_cuts_what_lies_beyond_it")),
    ("C01", In("estimator", "c01_vegas_steps_as_published")),
    ("C02", In("estimator", "c02_gradient2_steps_as_published")),
    ("C03", In("estimator", "c03_aimd_steps_as_published")),
    ("S02", In("overload", "s02_critical_calls_are_served_and_what_is_left_goes_to_the_others")),
    ("S03", In("overload", "s03_a_step_beyond_the_capacity_settles_and_costs_no_goodput")),
    ("S04", Not("what its sources measured on another testbed, without its parameters")),
    ("S05", In("balancing", "s05_slow_neighbours_spoil_equal_shares_and_nothing_else")),
    ("D01", In("determinism", "d01_equal_seeds_give_equal_traces_on_any_thread")),
    ("D02", In("determinism", "d02_the_model_that_is_measured_does_what_it_should")),
    ("D03", In("determinism", "d03_time_is_exact_to_the_nanosecond")),
];
