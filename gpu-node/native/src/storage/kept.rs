//! The number of weights that a mask must keep, and the check of it.

use super::Mask;
use crate::cpu::Implementation;
use std::fmt;

/// The exact number of weights that a mask must keep.
#[derive(Clone, Copy, Debug)]
pub struct KeptRule {
    /// The weights that are counted together.
    pub of: Counted,
    /// How many of them are kept.
    pub kept: usize,
}

/// Weights that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The weights of each row.
    Row,
    /// All weights of the matrix.
    Matrix,
    /// This many consecutive columns of a row: 1 to 64, and a divisor of the number of columns.
    Columns(usize),
}

/// The first place where a mask breaks its rule.
#[derive(Debug, PartialEq, Eq)]
pub struct KeptError {
    /// Row, from 0; `None` for the whole matrix.
    pub row: Option<usize>,
    /// First column of the group; `None` unless columns are counted.
    pub column: Option<usize>,
    /// Weights that the mask keeps.
    pub kept: usize,
    /// Weights that are counted together.
    pub of: usize,
    /// Weights that the rule keeps.
    pub expected: usize,
}

impl KeptRule {
    /// Number of weights of a matrix `[rows, cols]` that the rule keeps.
    pub fn total(&self, rows: usize, cols: usize) -> usize {
        match self.of {
            Counted::Row => rows * self.kept,
            Counted::Matrix => self.kept,
            Counted::Columns(group) => rows * (cols / group) * self.kept,
        }
    }

    /// Checks that the mask of a matrix `[rows, cols]` follows the rule.
    pub fn check(&self, mask: &Mask<'_>, rows: usize, cols: usize) -> Result<(), KeptError> {
        Implementation::fastest_without_permission().check_mask(Check { rule: self, mask, rows, cols })
    }

    #[inline(always)]
    fn check_all(&self, mask: &Mask<'_>, rows: usize, cols: usize) -> Result<(), KeptError> {
        let expected = self.kept;
        let mut total = 0;
        for row in 0..rows {
            match self.of {
                Counted::Row => {
                    let kept = mask.kept(row);
                    if kept != expected {
                        return Err(KeptError { row: Some(row), column: None, kept, of: cols, expected });
                    }
                }
                Counted::Matrix => total += mask.kept(row),
                Counted::Columns(group) => self.check_groups(mask, row, cols, group)?,
            }
        }
        if self.of == Counted::Matrix && total != expected {
            return Err(KeptError { row: None, column: None, kept: total, of: rows * cols, expected });
        }
        Ok(())
    }

    #[inline(always)]
    fn check_groups(&self, mask: &Mask<'_>, row: usize, cols: usize, group: usize) -> Result<(), KeptError> {
        // Checks 64 columns in a few operations. Only where a group is wrong, or groups cross words, it
        // counts group by group.
        if group.is_power_of_two() && cols.is_multiple_of(64) {
            let mut fits = true;
            for index in 0..cols / 64 {
                fits &= counts_are(mask.word(row, index, 64), group, self.kept as u64);
            }
            if fits {
                return Ok(());
            }
        }
        for first in (0..cols).step_by(group) {
            let kept = (first..(first + group).min(cols)).filter(|&col| mask.keeps(row, col)).count();
            if kept != self.kept {
                let (row, column) = (Some(row), Some(first));
                return Err(KeptError { row, column, kept, of: group, expected: self.kept });
            }
        }
        Ok(())
    }
}

/// The work of one call of [`KeptRule::check`].
pub(super) struct Check<'a> {
    rule: &'a KeptRule,
    mask: &'a Mask<'a>,
    rows: usize,
    cols: usize,
}

impl Check<'_> {
    #[inline(always)]
    pub(super) fn run(self) -> Result<(), KeptError> {
        self.rule.check_all(self.mask, self.rows, self.cols)
    }
}

/// Returns whether each `group` bits of the word have `kept` ones. `group` is a power of two up to 64.
#[inline(always)]
fn counts_are(word: u64, group: usize, kept: u64) -> bool {
    let fields = group.trailing_zeros() as usize;
    let mut counts = word;
    for (doubling, ones) in ONES[1..=fields].iter().enumerate() {
        let width = 1 << doubling;
        let low = ones * ((1 << width) - 1);
        counts = (counts & low) + (counts >> width & low);
    }
    kept <= group as u64 && counts == ONES[fields].wrapping_mul(kept)
}

/// For each i, a word with a one at the lowest bit of each field of 2ⁱ bits.
const ONES: [u64; 7] = {
    let mut ones = [1; 7];
    let mut index = 0;
    while index < 6 {
        ones[index] = u64::MAX / ((1 << (1 << index)) - 1);
        index += 1;
    }
    ones
};

impl fmt::Display for KeptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeptError { row, column, kept, of, expected } = self;
        if let Some(row) = row {
            write!(f, "row {row} ")?;
        }
        match column {
            None => write!(f, "keeps {kept} of {of} weights, expected {expected}"),
            Some(column) => {
                write!(f, "keeps {kept} of the {of} weights from column {column}, expected {expected}")
            }
        }
    }
}

impl std::error::Error for KeptError {}

#[cfg(test)]
mod tests {
    use super::counts_are;

    #[test]
    fn fields_of_a_word_are_counted_as_bits_are() {
        let mut word = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200 {
            word = word.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(17) ^ word >> 31;
            for group in [1usize, 2, 4, 8, 16, 32, 64] {
                let field = u64::MAX >> (64 - group);
                let counts = (0..64).step_by(group).map(|at| (word >> at & field).count_ones());
                let counts: Vec<_> = counts.map(u64::from).collect();
                for kept in 0..=group as u64 {
                    assert_eq!(counts_are(word, group, kept), counts.iter().all(|&count| count == kept));
                }
            }
        }
        assert!(counts_are(0x5555_5555_5555_5555, 4, 2));
        assert!(!counts_are(0x5555_5557_5555_5555, 4, 2));
    }
}
