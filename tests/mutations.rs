//! The tests of the tests: with one mechanism switched off, the simulator finds a seed that ends wrong, within a budget.

mod oracle;
mod row_reader;
mod sim;

use onecode::worker::Switches;
use sim::{Defects, Sabotage, run_seeds, with_late_checkpoints, with_late_copies};

/// At least one of the first `budget` seeds must fail.
fn assert_noticed(budget: u64, sabotage: Sabotage) {
    let Err(failures) = run_seeds(0..budget, sabotage, 1) else { panic!("{budget} seeds hold in spite of {sabotage:?}") };
    let first = failures.first().expect("a failure");
    println!("seed {} notices: {}", first.seed, first.reason.lines().next().unwrap_or_default());
}

fn without(switch_off: impl FnOnce(&mut Switches)) -> Sabotage {
    let mut sabotage = Sabotage::default();
    switch_off(&mut sabotage.switches);
    sabotage
}

/// At least one of so many systems of a scenario must fail.
fn assert_systems_notice<T>(systems: u64, sabotage: Sabotage, scenario: impl Fn(u64, Switches) -> Result<T, String>) {
    let failures: Vec<String> = (0..systems).filter_map(|seed| scenario(seed, sabotage.switches).err()).collect();
    println!("{} of {systems} systems notice: {}", failures.len(), failures.first().expect("a system that notices"));
}

#[test]
fn counting_a_repeat_again_is_noticed() {
    assert_noticed(100, without(|switches| switches.engine.recognises_repeats = false));
}

#[test]
fn a_contribution_that_is_taken_whatever_its_version_is_noticed() {
    // Of random faults, one in tens of thousands is a newer contribution that an older one overtakes.
    assert_systems_notice(100, without(|switches| switches.engine.compares_versions = false), with_late_copies);
}

#[test]
fn a_pair_that_keeps_silent_where_it_would_say_the_same_again_is_noticed() {
    assert_noticed(20_000, without(|switches| switches.engine.repeats_itself = false));
}

#[test]
fn a_checkpoint_before_kafkas_acknowledgement_is_noticed() {
    assert_noticed(300, without(|switches| switches.awaits_acknowledgements = false));
}

#[test]
fn a_checkpoint_before_its_rows_are_in_is_noticed() {
    assert_noticed(300, without(|switches| switches.awaits_rows = false));
}

#[test]
fn a_horizon_that_rises_during_a_replay_is_noticed() {
    assert_noticed(20_000, without(|switches| switches.horizon_awaits_replay = false));
}

#[test]
fn a_source_that_is_read_and_not_compared_with_its_copy_is_noticed() {
    assert_systems_notice(3_000, without(|switches| switches.compares_copies = false), with_late_checkpoints);
}

#[test]
fn rows_taken_over_from_an_owner_that_still_writes_are_noticed() {
    assert_systems_notice(300, without(|switches| switches.goes_on_only_where_closed = false), with_late_checkpoints);
}

#[test]
fn a_checkpoint_that_lands_in_pieces_is_noticed() {
    assert_noticed(500, Sabotage { store: Defects { tears_state: true, ..Defects::default() }, ..Sabotage::default() });
}

#[test]
fn a_version_without_its_generation_is_noticed() {
    assert_noticed(500, Sabotage { store: Defects { ignores_generation: true, ..Defects::default() }, ..Sabotage::default() });
}

#[test]
fn a_move_to_other_tasks_that_does_not_empty_what_will_be_counted_again_is_noticed() {
    assert_noticed(5_000, Sabotage { store: Defects { keeps_served_cells: true, ..Defects::default() }, ..Sabotage::default() });
}

#[test]
fn packs_of_cells_that_are_read_newest_first_are_noticed() {
    assert_noticed(100, Sabotage { store: Defects { reads_packs_backwards: true, ..Defects::default() }, ..Sabotage::default() });
}

#[test]
fn packs_that_should_be_gone_are_noticed() {
    assert_noticed(5_000, Sabotage { store: Defects { keeps_packs: true, ..Defects::default() }, ..Sabotage::default() });
}

#[test]
fn rows_acknowledged_before_they_are_in_are_noticed() {
    assert_noticed(500, Sabotage { store: Defects { acknowledges_early: true, ..Defects::default() }, ..Sabotage::default() });
}

#[test]
fn relays_acknowledged_before_they_are_in_their_log_are_noticed() {
    assert_noticed(500, Sabotage { acknowledges_early: true, ..Sabotage::default() });
}
