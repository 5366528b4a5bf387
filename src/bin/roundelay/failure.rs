//! How a run ends that does not end well.

use std::error::Error as _;
use std::io;
use std::process::ExitCode;

use roundelay::Error;

/// Why a run ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The flags, the environment or the configuration file are wrong.
    Usage(String),
    /// Something failed.
    Failed(String),
    /// Something failed and has been reported already.
    Reported,
    /// Nobody reads standard output any more.
    OutputClosed,
}

impl Failure {
    /// Says it in one line and gives the exit code: 2 for usage, 1 for failures.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Usage(message) => {
                eprintln!("roundelay: {message}");
                ExitCode::from(2)
            }
            Self::Failed(message) => {
                eprintln!("roundelay: {message}");
                ExitCode::FAILURE
            }
            Self::Reported => ExitCode::FAILURE,
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(described(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text.replace('\n', " ")
}
