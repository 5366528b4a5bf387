//! Rules of the house that no compiler checks: sizes, headers, and that every invariant is stated,
//! decided and cited.

use std::path::{Path, PathBuf};

/// A source file of this many lines must be cut.
const LONGEST_SOURCE: usize = 600;
const LONGEST_LUA: usize = 100;
const LONGEST_EXAMPLE: usize = 60;
/// What a header of a Lua script tells, in this order.
const LUA_HEADER: [&str; 4] = ["Purpose:", "KEYS:", "ARGV:", "Returns:"];
const INVARIANTS: [&str; 11] = ["Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7", "Q8", "Q9", "Q10", "Q11"];

struct File {
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files under a folder of this crate with one of these extensions, in order.
fn files(folder: &str, extensions: &[&str]) -> Vec<File> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|is| extensions.iter().any(|e| is == *e)) {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_owned();
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Those of the files that are longer, told with their lengths.
fn longer(files: &[File], most: usize) -> Vec<String> {
    let lines = files.iter().map(|file| (file, file.text.lines().count()));
    let long = lines.filter(|(_, lines)| *lines > most);
    long.map(|(file, lines)| format!("{}: {lines} lines", file.path.display())).collect()
}

/// Whether the text names the invariant: `Q1` is not named by `Q10`.
fn names(text: &str, invariant: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == invariant)
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let mut long = longer(&files("src", &["rs"]), LONGEST_SOURCE);
    long.extend(longer(&files("tests", &["rs"]), LONGEST_SOURCE));
    long.extend(longer(&files("benches", &["rs"]), LONGEST_SOURCE));
    long.extend(longer(&files("src", &["lua"]), LONGEST_LUA));
    long.extend(longer(&files("examples", &["rs"]), LONGEST_EXAMPLE));
    assert!(long.is_empty(), "cut these: {long:#?}");
}

#[test]
fn every_lua_script_says_what_it_takes_and_gives() {
    // What scripts share has no keys of its own.
    let scripts = files("src/node/redis/lua", &["lua"]);
    let mut bad = Vec::new();
    for script in scripts.iter().filter(|script| !script.path.iter().any(|part| part == "shared")) {
        let header: Vec<&str> =
            script.text.lines().map_while(|line| line.strip_prefix("--")).collect();
        let mut lines = header.iter().map(|line| line.trim());
        if !LUA_HEADER.iter().all(|word| lines.any(|line| line.starts_with(word))) {
            bad.push(&script.path);
        }
    }
    assert!(bad.is_empty(), "{LUA_HEADER:?}, in this order, are not in the header: {bad:#?}");
}

#[test]
fn every_invariant_is_stated_and_cited() {
    for (folder, extensions) in [("specs", &["md"][..]), ("src", &["rs", "lua"])] {
        let files = files(folder, extensions);
        for invariant in INVARIANTS {
            let named = files.iter().any(|file| names(&file.text, invariant));
            assert!(named, "{invariant} is not named in {folder}/");
        }
    }
}

/// The tests that the specification names for the invariants are there.
#[test]
fn tests_that_the_specification_names_exist() {
    let index = std::fs::read_to_string(root().join("specs/README.md")).unwrap();
    let api = std::fs::read_to_string(root().join("specs/zaqar-v2.md")).unwrap();
    let (_, api) = api.split_once("\n## Tests\n").unwrap();
    let code = files("tests", &["rs"]).into_iter().chain(files("src", &["rs"]));
    let code: String = code.map(|file| file.text).collect();
    let rules = api.lines().filter(|line| line.starts_with("| ") && line.contains("| `"));
    let table = index.lines().filter(|line| line.starts_with("| Q")).chain(rules);
    let mut missing = Vec::new();
    for row in table {
        for test in row.rsplit('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2) {
            let name = test.rsplit("::").next().unwrap_or(test);
            if !names_word(&code, name) {
                missing.push(test.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "no test is called so: {missing:#?}");
}

/// Each oracle that the specification names is there, and each that is there is named.
#[test]
fn oracles_that_the_specification_names_exist() {
    let index = std::fs::read_to_string(root().join("specs/README.md")).unwrap();
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| Q")).collect();
    let column = |row: &str| row.split('|').nth(4).unwrap_or_default().to_owned();
    // The statements of the invariants come first.
    let table = rows.iter().filter(|row| row.split('|').count() > 4).map(|row| column(row));
    let named: Vec<String> = table
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>())
        .collect();
    assert!(named.len() >= INVARIANTS.len());
    let exists = |name: &String| root().join(format!("tests/oracles/{name}.rs")).exists();
    let missing: Vec<_> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no oracle is called so: {missing:#?}");
    for (name, ..) in crate::oracles::ORACLES {
        assert!(named.iter().any(|known| known == name), "{name} is not in the table");
    }
}

fn names_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let ends = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        ends(code[..at].chars().next_back()) && ends(code[at + word.len()..].chars().next())
    })
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let mut all = files("src", &["rs", "lua"]);
    for (folder, extensions) in [
        ("tests", &["rs"][..]),
        ("specs", &["md"]),
        ("examples", &["rs", "toml"]),
        ("benches", &["rs"]),
    ] {
        all.extend(files(folder, extensions));
    }
    for name in [
        "README.md",
        "CHANGELOG.md",
        "Cargo.toml",
        "tests/run",
        "tests/clients/run",
        "tests/clients/tour.py",
        "tests/fuzz/run",
        "tests/fuzz/fuzz.py",
        "tests/fuzz/hooks.py",
        ".ci/run",
    ] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        all.push(File { path: name.into(), text });
    }
    // Put together here, so that this file does not name them.
    let forbidden = ["work", "root", "home"].map(|folder| format!("/{folder}/"));
    let mut found = Vec::new();
    for file in &all {
        for (number, line) in file.text.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word)) {
                found.push(format!("{}:{}: {line}", file.path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "absolute paths: {found:#?}");
}

#[test]
fn every_example_is_run_or_known_to_wait_for_more() {
    let script = std::fs::read_to_string(root().join("tests/run")).unwrap();
    let list = script.lines().find_map(|line| line.strip_prefix("for example in ")).unwrap();
    let run: Vec<&str> = list.trim_end_matches("; do").split(' ').collect();
    // These serve until they are told to end.
    let waiting = ["service"];
    for example in files("examples", &["rs"]) {
        let name = example.path.file_stem().and_then(|name| name.to_str()).unwrap();
        assert!(run.contains(&name) || waiting.contains(&name), "examples/{name}.rs is never run");
    }
}
