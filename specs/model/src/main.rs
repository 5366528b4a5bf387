//! Prints what the checker finds: a line for each part, and how often each transition was taken.
//! With `shortcuts` as argument: the counterexamples, too.

use roundelay_model::{RUNS, Shortcut, refute};

fn main() {
    if std::env::args().any(|argument| argument == "shortcuts") {
        for shortcut in Shortcut::ALL {
            let outcome = refute(*shortcut);
            let found = outcome.counterexample(shortcut.says());
            let found = found.unwrap_or_else(|| format!("{shortcut}: NOT REFUTED"));
            println!("{}\n{found}", outcome.row());
        }
    }
    for run in RUNS {
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
