//! What a mask file says of one linear, checked before it is packed.

use crate::storage::{KeptRule, Mask, MaskError};

/// Where a mask file has a linear: bytes from its start.
#[derive(Clone, Copy, Debug)]
pub struct MaskedPlace {
    /// Its bits.
    pub bits: usize,
    /// What they must keep.
    pub rule: KeptRule,
    /// bf16 values of the kept weights, and how many there are; those of the master without.
    pub values: Option<(usize, usize)>,
}

/// What is wrong with the bits of a linear, as the check in JavaScript says it (`shared/src/mask/check-linear.ts`).
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

/// As many values as the rule keeps, before they are read.
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
