//! The protocol holds in all states within the bounds, and every shortcut is refuted.
//!
//! `KEEP=1` writes the counterexamples and prints the table's lines instead of comparing them.

use std::path::{Path, PathBuf};

use roundelay_model::{Outcome, RUNS, Shortcut, refute};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn keeps() -> bool {
    std::env::var_os("KEEP").is_some()
}

fn readme() -> String {
    std::fs::read_to_string(here().join("README.md")).expect("README.md")
}

/// Two halves, for two cores.
fn half(which: usize) {
    for run in RUNS.iter().skip(which).step_by(2) {
        let outcome = run();
        println!("{}", outcome.row());
        assert!(outcome.broken.is_none(), "{}", outcome.counterexample("x").unwrap_or_default());
        assert_eq!(outcome.missed(), Vec::<&str>::new(), "never reached: {}", outcome.row());
        let known = readme().lines().any(|line| line.starts_with(&outcome.line()));
        assert!(known || keeps(), "README.md does not say: {}", outcome.line());
    }
}

#[test]
fn the_protocol_holds_and_reaches_all_of_interest_in_every_other_part() {
    half(0);
}

#[test]
fn the_protocol_holds_and_reaches_all_of_interest_in_the_remaining_parts() {
    half(1);
}

fn kept(shortcut: Shortcut) -> PathBuf {
    here().join("counterexamples").join(format!("{shortcut}.txt"))
}

fn counterexample(shortcut: Shortcut) -> String {
    let outcome: Outcome = refute(shortcut);
    let found = outcome.counterexample(shortcut.says());
    found.unwrap_or_else(|| panic!("{shortcut} is not refuted: {}", outcome.row()))
}

#[test]
fn every_shortcut_is_refuted_by_the_counterexample_that_is_kept() {
    for shortcut in Shortcut::ALL {
        let found = counterexample(*shortcut);
        if keeps() {
            std::fs::create_dir_all(here().join("counterexamples")).unwrap();
            std::fs::write(kept(*shortcut), &found).unwrap();
        }
        let before = std::fs::read_to_string(kept(*shortcut)).unwrap_or_default();
        assert_eq!(found, before, "{shortcut}: KEEP=1 keeps what is found now");
    }
}

#[test]
fn every_counterexample_that_is_kept_is_of_a_shortcut_and_named_in_the_readme() {
    let readme = readme();
    for entry in std::fs::read_dir(here().join("counterexamples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(Shortcut::ALL.iter().any(|shortcut| shortcut.name() == name), "{name} is nothing");
        assert!(readme.contains(&format!("`{name}`")), "README.md does not name {name}");
    }
}
