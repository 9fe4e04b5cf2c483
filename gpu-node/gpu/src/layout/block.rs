//! One group of one block, written to the arrays of its form.

use super::quantise::{Scaled, to_int4, to_int8};
use super::{BLOCK_ROWS, Form};
use half::bf16;

/// The longest group.
const MAX_GROUP: usize = 64;

/// The weights of a group of a block; those that are pruned or do not exist are 0 and not kept.
pub(super) struct Group {
    pub(super) weights: [[f32; MAX_GROUP]; BLOCK_ROWS],
    /// Bit c of a row is 1 where the weight in column c is kept.
    pub(super) kept: [u64; BLOCK_ROWS],
    /// Columns that exist.
    pub(super) cols: usize,
    /// Whether a mask prunes weights; then 0 must be a code.
    pub(super) pruned: bool,
}

/// The arrays of a form, and the values that the sparse form has so far.
pub(super) struct Arrays {
    pub(super) form: Form,
    pub(super) words: Vec<Vec<u32>>,
    values: usize,
}

/// A weight of a group that its form cannot represent.
pub(super) struct Unrepresentable {
    pub(super) row: usize,
    pub(super) col: usize,
}

impl Group {
    pub(super) const EMPTY: Group =
        Group { weights: [[0.0; MAX_GROUP]; BLOCK_ROWS], kept: [0; BLOCK_ROWS], cols: 0, pruned: false };

    /// The weight rounded to bf16, as bits.
    fn rounded(&self, row: usize, col: usize) -> Result<u32, Unrepresentable> {
        let rounded = bf16::from_f32(self.weights[row][col]);
        if rounded.is_finite() {
            return Ok(rounded.to_bits().into());
        }
        Err(Unrepresentable { row, col })
    }
}

impl Arrays {
    pub(super) fn new(form: Form) -> Arrays {
        Arrays { form, words: vec![Vec::new(); form.buffers()], values: 0 }
    }

    /// Appends a group.
    pub(super) fn push(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        match self.form {
            Form::Sparse => self.push_sparse(group),
            Form::Bf16 => self.push_bf16(group),
            Form::Int8 => self.push_int8(group),
            Form::Int4 => self.push_int4(group),
        }
    }

    fn push_sparse(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        let start = u32::try_from(self.values).expect("a part has fewer values");
        self.words[1].push(start);
        for col in 0..Form::Sparse.group() {
            let mut mask = 0;
            for row in (0..BLOCK_ROWS).filter(|&row| group.kept[row] >> col & 1 == 1) {
                mask |= 1 << row;
                let bits = group.rounded(row, col)?;
                match self.values % 2 {
                    0 => self.words[2].push(bits),
                    _ => *self.words[2].last_mut().expect("the other half") |= bits << 16,
                }
                self.values += 1;
            }
            self.words[0].push(mask);
        }
        Ok(())
    }

    fn push_bf16(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        for col in (0..Form::Bf16.group()).step_by(2) {
            for row in 0..BLOCK_ROWS {
                let word = group.rounded(row, col)? | group.rounded(row, col + 1)? << 16;
                self.words[0].push(word);
            }
        }
        Ok(())
    }

    fn push_int8(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        let coded = coded(group, to_int8)?;
        for pair in coded.as_chunks::<2>().0 {
            self.words[0].push(pair[0].scales | pair[1].scales << 16);
        }
        self.push_codes(&coded, 8);
        Ok(())
    }

    fn push_int4(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        let coded = coded(group, |weights| to_int4(weights, group.cols, group.pruned))?;
        self.words[0].extend(coded.iter().map(|row| row.scales));
        self.push_codes(&coded, 4);
        Ok(())
    }

    fn push_codes(&mut self, coded: &[Scaled], bits: usize) {
        let (in_word, mask) = (32 / bits, (1 << bits) - 1);
        for first in (0..self.form.group()).step_by(in_word) {
            for row in coded {
                let codes = row.codes[first..first + in_word].iter().enumerate();
                let word =
                    codes.fold(0, |word, (index, &code)| word | (u32::from(code) & mask) << (index * bits));
                self.words[1].push(word);
            }
        }
    }
}

fn coded(
    group: &Group,
    code: impl Fn(&[f32; MAX_GROUP]) -> Result<Scaled, usize>,
) -> Result<Vec<Scaled>, Unrepresentable> {
    let rows = group.weights.iter().enumerate();
    rows.map(|(row, weights)| code(weights).map_err(|col| Unrepresentable { row, col })).collect()
}
