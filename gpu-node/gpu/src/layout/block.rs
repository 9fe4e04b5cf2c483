//! One group of one block, written to the arrays of its form.

use super::{BLOCK_ROWS, Form};
use copal_native::storage::{
    PackedInt4Group, Precision, QuantisedGroup, quantise_group, quantise_packed_int4,
};
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

    /// The first `N` columns of each row.
    fn rows<const N: usize>(&self) -> [&[f32; N]; BLOCK_ROWS] {
        let rows = self.weights.each_ref();
        rows.map(|row| row.first_chunk().expect("no group is longer than the longest one"))
    }

    /// The codes of the first `N` columns, as the native engine computes them in dense form.
    fn quantised<const N: usize>(&self, precision: Precision) -> Result<QuantisedGroup, Unrepresentable> {
        quantise_group::<N>(precision, self.rows(), self.cols, self.pruned).map_err(unrepresentable)
    }
}

fn unrepresentable((row, col): (usize, usize)) -> Unrepresentable {
    Unrepresentable { row, col }
}

impl Arrays {
    pub(super) fn new(form: Form) -> Arrays {
        Arrays { form, words: vec![Vec::new(); form.buffers()], values: 0 }
    }

    /// Appends a group.
    pub(super) fn push(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        match self.form {
            Form::Sparse => self.push_sparse(group),
            Form::SparseInt4 => self.push_sparse_int4(group),
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

    fn push_sparse_int4(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        let cols = Form::SparseInt4.group();
        let quantised = quantise_packed_int4::<32>(group.rows(), group.cols).map_err(unrepresentable)?;
        let PackedInt4Group { scales, codes } = quantised;
        for [low, high] in scales.as_chunks().0 {
            self.words[0].push(u32::from(*low) | u32::from(*high) << 16);
        }
        self.words[1].extend(group.kept.map(|kept| kept as u32));
        let start = u32::try_from(self.words[3].len()).expect("a part has fewer values");
        let before = |row: usize| group.kept[..row].iter().map(|kept| kept.count_ones()).sum::<u32>();
        self.words[2].extend([start, before(8) | before(16) << 10 | before(24) << 20]);
        let kept = (0..BLOCK_ROWS).flat_map(|row| (0..cols).map(move |col| (row, col)));
        let kept = kept.filter(|&(row, col)| group.kept[row] >> col & 1 == 1);
        for (index, (row, col)) in kept.enumerate() {
            let code = u32::from(codes[row][col]);
            match index % 8 {
                0 => self.words[3].push(code),
                place => *self.words[3].last_mut().expect("it was begun") |= code << (4 * place),
            }
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
        let QuantisedGroup { scales, codes, .. } = group.quantised::<64>(Precision::Int8)?;
        for [low, high] in scales.as_chunks().0 {
            self.words[0].push(u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16);
        }
        // The codes are those of signed numbers plus 128.
        self.push_codes(&codes, 8, 0x80);
        Ok(())
    }

    fn push_int4(&mut self, group: &Group) -> Result<(), Unrepresentable> {
        let QuantisedGroup { scales, minimums, codes } = group.quantised::<32>(Precision::Int4)?;
        let pairs = scales.iter().zip(&minimums);
        self.words[0].extend(
            pairs.map(|(scale, minimum)| u32::from(scale.to_bits()) | u32::from(minimum.to_bits()) << 16),
        );
        self.push_codes(&codes, 4, 0);
        Ok(())
    }

    /// Appends codes of so many bits, with the bits of `flip` inverted.
    fn push_codes(&mut self, codes: &[[u8; MAX_GROUP]; BLOCK_ROWS], bits: usize, flip: u8) {
        let in_word = 32 / bits;
        for first in (0..self.form.group()).step_by(in_word) {
            for row in codes {
                let codes = row[first..first + in_word].iter().enumerate();
                let word =
                    codes.fold(0, |word, (index, &code)| word | u32::from(code ^ flip) << (index * bits));
                self.words[1].push(word);
            }
        }
    }
}
