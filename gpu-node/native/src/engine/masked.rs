//! The mask of one linear, as the mask file has it, checked before it is packed.

use super::places::LoadError;
use crate::storage::{KeptRule, Mask, MaskError, PackError};

/// Checks the bits of a linear. Errors read like those of `shared/src/mask/check-linear.ts`.
pub fn check_bits<'a>(
    name: &str,
    bits: &'a [u8],
    rule: &KeptRule,
    (rows, cols): (usize, usize),
) -> Result<Mask<'a>, LoadError> {
    let mask = Mask::new(bits, rows, cols).map_err(|error| {
        LoadError::Mask(match error {
            MaskError::Length { expected, found } => {
                format!("tensor '{name}' has {found} bytes, but [{rows}, {cols}] takes {expected}")
            }
            MaskError::Tail { row } => {
                format!("tensor '{name}' row {row} has bits set after its last column")
            }
        })
    })?;
    rule.check(&mask, rows, cols).map_err(|error| LoadError::Mask(format!("tensor '{name}' {error}")))?;
    Ok(mask)
}

/// Checks that there are as many values as kept weights, before they are read.
pub fn check_count(
    name: &str,
    values: usize,
    rule: &KeptRule,
    (rows, cols): (usize, usize),
) -> Result<(), LoadError> {
    let expected = rule.total(rows, cols);
    if values == expected {
        return Ok(());
    }
    Err(LoadError::Mask(format!("tensor '{name}' keeps {expected} weights, but has {values} values")))
}

/// The error for values of a mask that cannot be packed. The values belong to the mask, so the error does too.
pub fn values_error(name: &str, mask: Mask<'_>, error: PackError) -> LoadError {
    LoadError::Mask(match error {
        PackError::Weight { row, col, value, .. } if !value.is_finite() => {
            let index = mask.kept_before(row, col);
            format!("value {index} of tensor '{name}' is not finite")
        }
        error => format!("tensor '{name}': {error}"),
    })
}
