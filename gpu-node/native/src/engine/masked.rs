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
pub(super) fn check_bits(
    name: &str,
    bits: &[u8],
    rule: &KeptRule,
    (rows, cols): (usize, usize),
    pause: &dyn Fn(),
) -> Result<(), String> {
    let mask = Mask::new(bits, rows, cols).map_err(|error| match error {
        MaskError::Length { expected, found } => {
            format!("tensor '{name}' has {found} bytes, [{rows}, {cols}] takes {expected}")
        }
        MaskError::Tail { row } => format!("tensor '{name}' row {row} has bits set after its last column"),
    })?;
    rule.check(&mask, rows, cols, pause).map_err(|error| format!("tensor '{name}' {error}"))
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
    Err(format!("tensor '{name}' keeps {expected} weights, but there are {values} values of them"))
}

/// Kept bf16 values, row by row, at their places in a matrix of f32; as many as bits are set.
pub(super) fn spread(
    name: &str,
    values: &[u8],
    bits: &[u8],
    (rows, cols): (usize, usize),
) -> Result<Vec<f32>, String> {
    let (values, _) = values.as_chunks::<2>();
    let is_finite = |value: &[u8; 2]| u16::from_le_bytes(*value) & 0x7f80 != 0x7f80;
    if let Some(index) = values.iter().position(|value| !is_finite(value)) {
        return Err(format!("value {index} of tensor '{name}' is not finite"));
    }
    let mut dense = vec![0.0; rows * cols];
    let mut values = values.iter();
    for (row, bits) in dense.chunks_exact_mut(cols).zip(bits.chunks_exact(cols.div_ceil(8))) {
        for (weights, byte) in row.chunks_mut(8).zip(bits) {
            for (bit, weight) in weights.iter_mut().enumerate() {
                if byte >> bit & 1 == 1
                    && let Some(value) = values.next()
                {
                    *weight = f32::from_bits(u32::from(u16::from_le_bytes(*value)) << 16);
                }
            }
        }
    }
    Ok(dense)
}
