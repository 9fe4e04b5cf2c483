//! Formats of packed weights: a precision, and the number of columns that share a scale.

use super::{BLOCK_ROWS, VECTOR_BYTES};
use std::fmt;

/// How a weight is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// bfloat16.
    Bf16,
    /// Signed 8 bits with an f16 scale for each row and group.
    Int8,
    /// Unsigned 4 bits. Dense, with an f16 scale and an f16 minimum for each row and group; where weights are pruned,
    /// the minimum is minus a code times the scale, so that this code is exactly 0. Sparse, with a scale of 6 significant
    /// bits and a zero point in quarters of a code.
    Int4,
}

/// Bytes before the codes of an expanded group of int4: for each row a quarter of its scale as f32, and an i32. That is the zero
/// point in quarters of a code, or what an instruction set needs instead.
pub(crate) const EXPANDED_INT4_HEADER: usize = 8 * BLOCK_ROWS;

/// A precision and the number of columns that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    precision: Precision,
    group: usize,
}

/// Why a format does not exist.
#[derive(Debug, PartialEq, Eq)]
pub enum FormatError {
    /// No precision has this name.
    Precision(String),
    /// The precision has no groups of this many columns.
    Group(Precision, usize),
}

impl Precision {
    /// Every precision with its name.
    pub const ALL: [(&'static str, Precision); 3] =
        [("bf16", Precision::Bf16), ("int8", Precision::Int8), ("int4", Precision::Int4)];

    /// The name that [`Precision::named`] accepts.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
            Precision::Int4 => "int4",
        }
    }

    /// Returns the precision called `name`.
    pub fn named(name: &str) -> Result<Precision, FormatError> {
        let found = Precision::ALL.iter().find(|(known, _)| *known == name);
        found.map(|&(_, precision)| precision).ok_or_else(|| FormatError::Precision(name.to_owned()))
    }
}

impl Format {
    /// bf16. It has no scales; its groups of 64 columns are only the unit of the layout.
    pub const BF16: Format = Format { precision: Precision::Bf16, group: 64 };

    /// Creates a format. `group` is 64 or 32 columns; bf16 has only 64.
    pub fn new(precision: Precision, group: usize) -> Result<Format, FormatError> {
        match (precision, group) {
            (Precision::Bf16, 64) | (Precision::Int8 | Precision::Int4, 64 | 32) => {
                Ok(Format { precision, group })
            }
            _ => Err(FormatError::Group(precision, group)),
        }
    }

    /// The format that the engine uses for a precision: int8 with groups of 64, which lose no quality, and
    /// int4 with groups of 32, which take half a bit more for each weight.
    pub fn usual(precision: Precision) -> Format {
        let group = if precision == Precision::Int4 { 32 } else { 64 };
        Format { precision, group }
    }

    /// How a weight is encoded.
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// Columns of a group.
    pub fn group(self) -> usize {
        self.group
    }

    /// Columns that lie side by side in a 32-bit lane, for int4 after unpacking.
    pub(crate) fn step(self) -> usize {
        match self.precision {
            Precision::Bf16 => 2,
            Precision::Int8 | Precision::Int4 => 4,
        }
    }

    /// Steps of a group.
    pub(crate) fn steps(self) -> usize {
        self.group / self.step()
    }

    /// Number of groups of `cols` columns. The last one may be partial.
    pub(crate) fn groups(self, cols: usize) -> usize {
        cols.div_ceil(self.group)
    }

    /// Bytes before the values of a dense group of a block: scales and minimums.
    pub(crate) fn dense_header(self) -> usize {
        match self.precision {
            Precision::Bf16 => 0,
            Precision::Int8 => 2 * BLOCK_ROWS,
            Precision::Int4 => 4 * BLOCK_ROWS,
        }
    }

    /// Bytes of a dense group of a block.
    pub(crate) fn dense_group(self) -> usize {
        let vectors = match self.precision {
            Precision::Bf16 | Precision::Int8 => 2 * self.steps(),
            Precision::Int4 => self.steps(),
        };
        self.dense_header() + vectors * VECTOR_BYTES
    }

    /// Bytes of a sparse group of a block after its expansion. A code of int4 takes a byte then.
    pub(crate) fn expanded_group(self) -> usize {
        match self.precision {
            Precision::Bf16 | Precision::Int8 => self.dense_group(),
            Precision::Int4 => EXPANDED_INT4_HEADER + self.group * BLOCK_ROWS,
        }
    }

    /// Bytes before the masks of a sparse group: scales, of int4 with zero points.
    pub(crate) fn sparse_scales(self) -> usize {
        match self.precision {
            Precision::Bf16 => 0,
            Precision::Int8 | Precision::Int4 => 2 * BLOCK_ROWS,
        }
    }

    /// Bytes before the values of a sparse group.
    pub(crate) fn sparse_header(self) -> usize {
        self.sparse_scales() + self.group * BLOCK_ROWS / 8
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::Precision(name) => {
                let known = Precision::ALL.map(|(known, _)| known).join(", ");
                write!(f, "unknown precision '{name}'; there are: {known}")
            }
            FormatError::Group(Precision::Bf16, group) => {
                write!(f, "bf16 has no scales and groups of 64 alone, not {group}")
            }
            FormatError::Group(precision, group) => {
                let name = precision.name();
                write!(f, "{name} comes in groups of 64 or 32 columns, not {group}")
            }
        }
    }
}

impl std::error::Error for FormatError {}
