//! Checks of the lengths of arrays that callers give.

use std::fmt;

/// Arrays whose lengths do not match the shape of a linear.
#[derive(Debug, PartialEq, Eq)]
pub struct ShapeError {
    what: &'static str,
    found: usize,
    expected: String,
}

impl ShapeError {
    pub(crate) fn new(what: &'static str, found: usize, expected: impl Into<String>) -> ShapeError {
        ShapeError { what, found, expected: expected.into() }
    }
}

/// An array: what it is called, how many values it has, and its shape.
pub(crate) type Shaped = (&'static str, usize, [usize; 2]);

/// Checks that every array has as many values as its shape. `count` says how the number of rows was found.
pub(crate) fn check_lengths(arrays: &[Shaped], count: &str) -> Result<(), ShapeError> {
    for (what, found, [rows, cols]) in arrays {
        if Some(*found) != rows.checked_mul(*cols) {
            let expected = format!("values; with {count} it has the shape [{rows}, {cols}]");
            return Err(ShapeError::new(what, *found, expected));
        }
    }
    Ok(())
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {} {}", self.what, self.found, self.expected)
    }
}

impl std::error::Error for ShapeError {}
