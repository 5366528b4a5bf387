//! The tour of the README, run as it stands there.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../README.md");
/// The address that the tour names.
const ADDRESS: &str = "http://127.0.0.1:8888";
/// Tells the status of every answer, without touching what the tour sees.
const TELL_STATUS: &str =
    "curl() { command curl --max-time 20 -w '%{stderr}status %{http_code}\\n' \"$@\"; }\n";

/// A service of its own on embedded nodes; ends with the test.
struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_roundelay"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_remove("ROUNDELAY_NODES")
            .env_remove("ROUNDELAY_CONFIG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        let mut before = String::new();
        let mut address = None;
        for line in said.lines() {
            let line = line.unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                address = rest.split(',').next().map(str::to_owned);
                break;
            }
            before.push_str(&line);
        }
        // Held by nobody if there is none: the process has ended then.
        let address = address.unwrap_or_else(|| panic!("the service did not start: {before}"));
        Self { process, address }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The first block of bash in the README.
fn tour() -> &'static str {
    let (_, rest) = README.split_once("```bash\n").expect("the README has a tour");
    rest.split_once("```").expect("the tour ends").0
}

/// The statuses that the tour's comments promise, in order.
fn promised(tour: &str) -> Vec<&str> {
    tour.lines()
        .filter_map(|line| line.rsplit_once("# "))
        .map(|(_, comment)| comment)
        .filter(|comment| comment.len() == 3 && comment.bytes().all(|c| c.is_ascii_digit()))
        .collect()
}

#[test]
fn the_tour_answers_as_the_readme_says() {
    let service = Service::start();
    assert!(tour().contains(ADDRESS));
    let script =
        format!("set -euo pipefail\n{TELL_STATUS}{}", tour().replace(ADDRESS, &service.address));
    let output = Command::new("bash").arg("-c").arg(&script).output().expect("bash is there");
    let (shown, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}\n{told}");
    let statuses: Vec<&str> =
        told.lines().filter_map(|line| line.strip_prefix("status ")).collect();
    assert_eq!(statuses.len(), script.matches("curl \"$").count(), "a request was not counted");
    assert_eq!(statuses, promised(tour()), "{shown}\n{told}");
    // The message that was not claimed, and nothing else, is left.
    let stats = shown.lines().last().unwrap_or_default();
    assert!(stats.contains("\"total\":1") || stats.contains("\"total\": 1"), "{shown}");
}

#[test]
fn files_that_the_readme_names_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let links = README.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let mut missing = Vec::new();
    for (path, _) in links.filter(|(path, _)| !path.contains("://")) {
        if !root.join(path).exists() {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "the README names what is not there: {missing:?}");
}
