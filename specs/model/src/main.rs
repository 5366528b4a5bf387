//! Prints what the checker finds: a line for each part, and how often each transition was taken.
//! With `shortcuts` as argument: the counterexamples, too. With numbers: only these lines.

use roundelay_model::{RUNS, Shortcut, refute};

fn main() {
    if std::env::args().any(|argument| argument == "shortcuts") {
        for shortcut in Shortcut::ALL {
            let outcome = refute(*shortcut);
            let found = outcome.counterexample(shortcut.says());
            let found = found.unwrap_or_else(|| format!("{shortcut}: NOT REFUTED"));
            println!("## {shortcut}\n{}\n{found}", outcome.row());
        }
    }
    let wanted: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let runs = RUNS.iter().enumerate();
    for (_, run) in runs.filter(|(number, _)| wanted.is_empty() || wanted.contains(number)) {
        let outcome = run();
        println!("{}", outcome.row());
        for (transition, times) in &outcome.reached {
            println!("    {times:>9} x {}", transition.name());
        }
        if let Some(found) = outcome.counterexample("BROKEN") {
            println!("{found}");
        }
    }
}
