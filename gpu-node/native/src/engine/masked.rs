//! The mask of one linear, as the mask file has it, checked before it is packed.

use crate::storage::{KeptRule, Mask, MaskError};

/// The place of a linear in a mask file: offsets in bytes from its start.
#[derive(Clone, Copy, Debug)]
pub struct MaskedPlace {
    /// Its mask bits.
    pub bits: usize,
    /// How many weights they must keep.
    pub rule: KeptRule,
    /// The bf16 values of the kept weights, and their number; `None` if the weights are those of the master.
    pub values: Option<(usize, usize)>,
}

/// Checks the bits of a linear. Errors read like those of `shared/src/mask/check-linear.ts`.
pub(super) fn check_bits<'a>(
    name: &str,
    bits: &'a [u8],
    rule: &KeptRule,
    (rows, cols): (usize, usize),
) -> Result<Mask<'a>, String> {
    let mask = Mask::new(bits, rows, cols).map_err(|error| match error {
        MaskError::Length { expected, found } => {
            format!("tensor '{name}' has {found} bytes, but [{rows}, {cols}] takes {expected}")
        }
        MaskError::Tail { row } => format!("tensor '{name}' row {row} has bits set after its last column"),
    })?;
    rule.check(&mask, rows, cols).map_err(|error| format!("tensor '{name}' {error}"))?;
    Ok(mask)
}

/// Checks that there are as many values as kept weights, before they are read.
pub(super) fn check_count(
    name: &str,
    values: usize,
    rule: &KeptRule,
    (rows, cols): (usize, usize),
) -> Result<(), String> {
    let expected = rule.total(rows, cols);
    if values == expected {
        return Ok(());
    }
    Err(format!("tensor '{name}' keeps {expected} weights, but has {values} values"))
}
