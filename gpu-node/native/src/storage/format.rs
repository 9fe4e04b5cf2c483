use super::{BLOCK_ROWS, VECTOR_BYTES};
use std::fmt;

/// How a weight is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// bfloat16.
    Bf16,
    /// Signed 8 bits with an f16 scale a row and group.
    Int8,
    /// Unsigned 4 bits with a scale and a minimum a row and group. Stored dense, whatever is pruned: expanding nibbles
    /// takes longer than reading them.
    Int4,
}

/// A precision and the number of columns that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    precision: Precision,
    group: usize,
}

/// Why there is no such format.
#[derive(Debug, PartialEq, Eq)]
pub enum FormatError {
    /// No precision of that name.
    Precision(String),
    /// No such group in that precision.
    Group(Precision, usize),
}

impl Precision {
    /// Every precision, by name.
    pub const ALL: [(&'static str, Precision); 3] =
        [("bf16", Precision::Bf16), ("int8", Precision::Int8), ("int4", Precision::Int4)];

    /// The name that [`Precision::named`] reads.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
            Precision::Int4 => "int4",
        }
    }

    /// The precision called `name`.
    pub fn named(name: &str) -> Result<Precision, FormatError> {
        let found = Precision::ALL.iter().find(|(known, _)| *known == name);
        found.map(|&(_, precision)| precision).ok_or_else(|| FormatError::Precision(name.to_owned()))
    }
}

impl Format {
    /// bf16. It has no scales; its groups of 64 are only the unit of the layout.
    pub const BF16: Format = Format { precision: Precision::Bf16, group: 64 };

    /// `group` is 64 or 32; bf16 knows only 64.
    pub fn new(precision: Precision, group: usize) -> Result<Format, FormatError> {
        match (precision, group) {
            (Precision::Bf16, 64) | (Precision::Int8 | Precision::Int4, 64 | 32) => {
                Ok(Format { precision, group })
            }
            _ => Err(FormatError::Group(precision, group)),
        }
    }

    /// What the engine takes of a precision: of int8 the longest groups, which lose nothing; of int4 the shorter
    /// ones, half a bit a weight more.
    pub fn usual(precision: Precision) -> Format {
        let group = if precision == Precision::Int4 { 32 } else { 64 };
        Format { precision, group }
    }

    /// How a weight is written.
    pub fn precision(self) -> Precision {
        self.precision
    }

    /// Columns of a group.
    pub fn group(self) -> usize {
        self.group
    }

    /// Columns that lie side by side in a 32-bit lane, or, of int4, in a lane once it is unpacked.
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

    /// Groups that `cols` columns fill, the last one perhaps in part.
    pub(crate) fn groups(self, cols: usize) -> usize {
        cols.div_ceil(self.group)
    }

    /// Bytes before the values of a dense group.
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

    /// Whether only what survives is stored of a pruned matrix.
    pub(crate) fn stores_sparse(self) -> bool {
        self.precision != Precision::Int4
    }

    /// Bytes before the masks of a sparse group.
    pub(crate) fn sparse_scales(self) -> usize {
        if self.precision == Precision::Int8 { 2 * BLOCK_ROWS } else { 0 }
    }

    /// Bytes before the values of a sparse group: scales and masks.
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
