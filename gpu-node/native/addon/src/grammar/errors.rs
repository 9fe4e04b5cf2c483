//! The errors of the grammar compiler, sorted by their reason.
//!
//! `llguidance` reports errors as text only. Its version is pinned, and `tests/grammar.rs` checks every text that is
//! matched here against the compiler, so an update that rewords one fails a test.

use std::{fmt, io};

/// Why a grammar was not compiled.
#[derive(Debug)]
pub enum CompileError {
    /// The compiler rejects the grammar.
    Grammar {
        /// The part that it rejects.
        problem: Problem,
        /// The compiler's own words.
        reason: String,
    },
    /// There is no thread to compile on.
    Thread(io::Error),
    /// The compiler panicked.
    Panicked,
}

/// The part of a grammar that the compiler rejects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Keywords of JSON Schema that are not supported: each in single quotes, separated by commas.
    UnsupportedKeywords(String),
    /// A `format` that is not supported.
    UnsupportedFormat(String),
    /// A `oneOf` whose schemas do not exclude each other.
    UnsupportedOneOf,
    /// A `$ref` that does not point into the schema.
    ExternalRef(String),
    /// A `$ref` that points to nothing.
    MissingRef(String),
    /// No JSON satisfies the schema, for this reason.
    Unsatisfiable(String),
    /// Anything else.
    Other,
}

impl CompileError {
    pub(super) fn of_grammar(error: &impl fmt::Display) -> CompileError {
        let reason = reason_of(error);
        CompileError::Grammar { problem: Problem::of(&reason), reason }
    }
}

impl Problem {
    fn of(reason: &str) -> Problem {
        if let Some(keywords) = between(reason, "Unimplemented keys: [", "]") {
            Problem::UnsupportedKeywords(keywords.replace('"', "'"))
        } else if let Some(format) = reason.strip_prefix("Unknown format: ") {
            Problem::UnsupportedFormat(format.to_owned())
        } else if reason.starts_with("oneOf constraints are not supported") {
            Problem::UnsupportedOneOf
        } else if let Some((_, reference)) =
            between(reason, "Only absolute $ref's ", "'").and_then(|rest| rest.rsplit_once("; ref '"))
        {
            Problem::ExternalRef(reference.to_owned())
        } else if let Some((_, reference)) =
            between(reason, "Reference segment '", "'.").and_then(|rest| rest.rsplit_once("' not found in '"))
        {
            Problem::MissingRef(reference.to_owned())
        } else if let Some(reason) = reason.strip_prefix("Unsatisfiable schema: ") {
            Problem::Unsatisfiable(reason.to_owned())
        } else {
            Problem::Other
        }
    }
}

fn between<'a>(text: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_suffix(suffix)
}

/// The reason in an error text of `llguidance`: its first line, since the other lines are the parser's state. For an
/// invalid regular expression it is the line that begins with `error:`.
pub(super) fn reason_of(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let regex_error = text.lines().find_map(|line| line.strip_prefix("error: "));
    match regex_error {
        Some(reason) if text.starts_with("regex parse error") => format!("in a 'pattern': {reason}"),
        _ => text.lines().next().unwrap_or("no reason").to_owned(),
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Grammar { reason, .. } => f.write_str(reason),
            CompileError::Thread(error) => write!(f, "no thread to compile on: {error}"),
            CompileError::Panicked => f.write_str("the compiler failed"),
        }
    }
}

impl std::error::Error for CompileError {}
