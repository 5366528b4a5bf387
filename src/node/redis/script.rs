//! The scripts that run on the server: their texts, assembled from parts, and their names there.
//!
//! They are loaded anew for each connection; a server that does not know one has been restarted
//! or meddled with (`NOSCRIPT`), and the connection is given up.

use std::sync::LazyLock;

macro_rules! scripts {
    ($($name:ident $file:literal $flags:ident [$($part:ident)*]),* $(,)?) => {
        /// One script for each operation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Script { $($name),* }

        static SCRIPTS: LazyLock<Vec<Loaded>> = LazyLock::new(|| vec![
            $(Loaded::new(&[
                $flags, $($part,)*
                include_str!(concat!("lua/", $file, ".lua")),
            ])),*
        ]);
    };
}

macro_rules! parts {
    ($($name:ident $file:literal),* $(,)?) => {
        $(const $name: &str = include_str!(concat!("lua/shared/", $file, ".lua"));)*
    };
}

/// They must run on a full node too: what they free is what it needs.
const WRITES: &str = "#!lua flags=allow-oom\n";
const READS: &str = "#!lua flags=no-writes,allow-oom\n";

/// All but the hottest script begin with these: each function that a script defines costs every
/// call of it about 0.2 us.
const BASE: &str =
    concat!(include_str!("lua/shared/start.lua"), include_str!("lua/shared/ids.lua"));
const REPLICA: &str =
    concat!(include_str!("lua/shared/numbers.lua"), include_str!("lua/shared/replica.lua"));

/// What picks, holds and deletes begin with.
const QUICK: &str = concat!(
    include_str!("lua/shared/start.lua"),
    include_str!("lua/shared/numbers.lua"),
    include_str!("lua/shared/quick.lua"),
);

parts! {
    QUICK_MARKS "quick_marks", QUICK_PICK "quick_pick", QUICK_HOLD "quick_hold",
    QUICK_DELETE "quick_delete", QUICK_ENDED "quick_ended", IDS "ids", REPLICA_ONLY "replica",
    START "start", NUMBERS "numbers", BLOCK "block", CLAIM "claim", CHANGE "change", SAVE "save", MARKS "marks", ALIKE "alike", ENTRY "entry",
    MEMBERS "members", PENDING "pending", MERGE "merge", RECALL "recall", GATHER "gather", JOURNAL "journal", CURRENT "current",
    KEEPER "keeper", REAP "reap",
}

scripts! {
    Admit "admit" WRITES [BASE],
    Identity "identity" READS [BASE],
    Open "open" WRITES [BASE REPLICA],
    Append "append" WRITES [START NUMBERS JOURNAL],
    Note "note" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK],
    Read "read" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK CLAIM ENTRY],
    Probe "probe" WRITES [BASE REPLICA JOURNAL CURRENT],
    Seal "seal" WRITES [BASE REPLICA JOURNAL CURRENT],
    TellEnd "tell_end" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK CLAIM MARKS CHANGE SAVE],
    Get "get" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK CLAIM ENTRY],
    Pick "pick" WRITES [QUICK QUICK_MARKS QUICK_PICK IDS REPLICA_ONLY BLOCK CLAIM REAP MARKS CHANGE SAVE ENTRY MEMBERS GATHER],
    Hold "hold" WRITES [QUICK QUICK_MARKS QUICK_HOLD IDS REPLICA_ONLY BLOCK CLAIM REAP MARKS ALIKE CHANGE SAVE MEMBERS PENDING],
    Release "release" WRITES [BASE REPLICA BLOCK CLAIM REAP MARKS CHANGE SAVE PENDING],
    Renew "renew" WRITES [BASE REPLICA BLOCK CLAIM REAP MARKS CHANGE SAVE MEMBERS PENDING],
    ReadClaim "read_claim" READS [BASE REPLICA BLOCK CLAIM REAP MARKS CHANGE SAVE ENTRY MEMBERS],
    Delete "delete" WRITES [QUICK QUICK_DELETE QUICK_ENDED IDS REPLICA_ONLY BLOCK CLAIM MARKS ALIKE CHANGE SAVE PENDING],
    Stats "stats" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK CLAIM REAP MARKS CHANGE SAVE ENTRY],
    CopyOut "copy_out" READS [BASE REPLICA BLOCK CLAIM ENTRY],
    CopyIn "copy_in" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK CLAIM REAP MARKS CHANGE SAVE MEMBERS PENDING MERGE RECALL],
    Fence "fence" WRITES [BASE REPLICA],
    Wipe "wipe" WRITES [BASE REPLICA JOURNAL CURRENT BLOCK],
    Due "due" READS [BASE],
    Defer "defer" WRITES [BASE REPLICA],
    Keep "keep" WRITES [BASE],
    Restore "restore" WRITES [BASE KEEPER],
    Activate "activate" WRITES [BASE KEEPER],
    Dump "dump" READS [BASE KEEPER],
    Prepare "prepare" WRITES [BASE KEEPER],
    Accept "accept" WRITES [BASE KEEPER],
    ReadRegisters "read_registers" READS [BASE KEEPER],
    Changes "changes" READS [BASE KEEPER],
    ListIndex "list_index" READS [BASE KEEPER],
}

#[derive(Debug)]
struct Loaded {
    text: String,
    sha: String,
}

impl Loaded {
    fn new(parts: &[&str]) -> Self {
        let text = parts.concat();
        let sha = sha1_smol::Sha1::from(&text).digest().to_string();
        Self { text, sha }
    }
}

impl Script {
    /// The name under which the server runs it once it is loaded.
    pub(super) fn sha(self) -> &'static str {
        // The list and the enum are made by one macro, in one order.
        SCRIPTS.get(self as usize).map_or("", |script| &script.sha)
    }
}

/// Commands that load all scripts.
pub(super) fn load() -> redis::Pipeline {
    let mut pipe = redis::pipe();
    for script in SCRIPTS.iter() {
        pipe.cmd("SCRIPT").arg("LOAD").arg(&script.text);
    }
    pipe
}

/// How many they are.
pub(super) fn count() -> usize {
    SCRIPTS.len()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Stems and texts of the files of a folder.
    fn files(folder: &str) -> Vec<(String, String)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/node/redis").join(folder);
        let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|extension| extension == "lua"))
            .map(|path| {
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                (stem, std::fs::read_to_string(&path).unwrap())
            })
            .collect()
    }

    #[test]
    fn every_script_says_what_it_does_and_why_it_is_atomic() {
        let scripts = files("lua");
        assert_eq!(scripts.len(), super::count());
        for (name, text) in scripts {
            let said: Vec<&str> = text
                .lines()
                .take_while(|line| line.starts_with("--"))
                .filter_map(|line| line.strip_prefix("-- ")?.split_once(':'))
                .map(|(word, _)| word)
                .filter(|word| word.chars().all(char::is_alphabetic))
                .collect();
            assert_eq!(said, ["Purpose", "KEYS", "ARGV", "Returns", "Atomic"], "{name}.lua");
        }
    }

    #[test]
    fn every_lua_file_is_short() {
        for (name, text) in files("lua").into_iter().chain(files("lua/shared")) {
            assert!(text.lines().count() < 100, "{name}.lua");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{name}.lua");
        }
    }
}
