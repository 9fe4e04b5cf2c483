//! Multiplication by packed matrices.
//!
//! A [`Kernel`] is one instruction set's functions over one block of rows. [`Kernel::available`]
//! lists those that this machine can run, best first; [`Multiplier`] runs one on a pool.

#![allow(unsafe_code)]

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod by_groups;
mod disjoint;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod expand_table;
mod multiply;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod table;

use crate::storage::{BLOCK_ROWS, Format, Precision};
use activations::ChunkMut;
pub(crate) use activations::may_have;
pub use activations::{Activations, Encoding, MOST_ACTIVATIONS};
pub(crate) use disjoint::Disjoint;
pub use multiply::{MOST_PRODUCTS, Multiplier, MultiplyError, Product};
use std::fmt;
use table::{ByGroup, ByTokens};

/// Tokens that one pass over the weights serves.
pub const CHUNK_TOKENS: usize = 8;

/// Names of all kernels, on whatever machine, best first for most.
pub const KERNEL_NAMES: [&str; 6] = ["amx", "avx512bf16", "avx512", "avx2", "neon", "scalar"];

/// The functions of one instruction set. A token gets the same bits alone as beside others.
#[derive(Debug)]
pub struct Kernel {
    name: &'static str,
    set: InstructionSet,
    bf16_words: Bf16Words,
    /// Chunks of so many tokens and more have 16-bit inputs as two planes of bytes.
    planes_from: usize,
    encode: unsafe fn(ChunkMut<'_>),
    dense_bf16: ByTokens,
    dense_int8: ByGroup<ByTokens>,
    dense_int4: ByGroup<ByTokens>,
    sparse_bf16: ByTokens,
    sparse_int8: ByGroup<ByTokens>,
    expand_bf16: ExpandFn,
    expand_int8: ByGroup<ExpandFn>,
}

/// What the loops beside the multiplications are compiled for; several kernels have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Baseline,
}

/// How the words of a panel hold inputs that were rounded to bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bf16Words {
    /// Two columns a word: for instructions that multiply pairs.
    Pairs,
    /// A column a word, as f32.
    Floats,
}

/// Adds the product of some groups of a block and a panel to `sums[token][row]`.
///
/// Contract: the machine has the kernel's instruction set; `stream` starts with that many groups as
/// `storage` writes them and is at least 64 bytes longer; the panel has as many groups, and the
/// number of tokens that the function was chosen for.
type BlockFn = unsafe fn(stream: &[u8], groups: usize, panel: Panel<'_>, sums: &mut BlockSums);

/// Writes some sparse groups as dense ones and returns the bytes that were read.
///
/// Contract: as of [`BlockFn`], and `out` has room for the dense groups.
type ExpandFn = unsafe fn(stream: &[u8], groups: usize, out: &mut [u8]) -> usize;

/// The encoded activations of up to [`CHUNK_TOKENS`] tokens; see [`Activations`] for the order.
#[derive(Clone, Copy)]
struct Panel<'a> {
    tokens: usize,
    words: &'a [u32],
    scales: &'a [f32],
    sums: &'a [i32],
}

impl<'a> Panel<'a> {
    /// One of so many groups.
    fn group(self, index: usize, groups: usize) -> Panel<'a> {
        let words = self.words.len() / groups;
        Panel {
            tokens: self.tokens,
            words: &self.words[index * words..][..words],
            scales: &self.scales[index * self.tokens..][..self.tokens],
            sums: &self.sums[index * self.tokens..][..self.tokens],
        }
    }
}

/// Products of one block, `[token][row]`.
#[repr(align(64))]
struct BlockSums([[f32; BLOCK_ROWS]; CHUNK_TOKENS]);

/// Why there is no such kernel.
#[derive(Debug, PartialEq, Eq)]
pub enum KernelError {
    /// No kernel of that name anywhere.
    Unknown(String),
    /// This machine cannot run it.
    Unavailable(String),
}

impl Kernel {
    /// The kernels that this machine can run, best first.
    pub fn available() -> Vec<&'static Kernel> {
        let mut kernels: Vec<&'static Kernel> = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if avx512::has_amx() {
                kernels.push(&avx512::AMX);
            }
            if avx512::has_fast_bf16() {
                kernels.push(&avx512::AVX512_BF16);
            }
            if avx512::is_available() {
                kernels.push(&avx512::AVX512);
            }
            if avx512::has_bf16() && !avx512::has_fast_bf16() {
                kernels.push(&avx512::AVX512_BF16);
            }
            if avx2::is_available() {
                kernels.push(&avx2::KERNEL);
            }
        }
        #[cfg(target_arch = "aarch64")]
        kernels.push(&neon::KERNEL);
        kernels.push(&scalar::KERNEL);
        kernels
    }

    /// The kernel called `name`, or the best one of this machine.
    pub fn select(name: Option<&str>) -> Result<&'static Kernel, KernelError> {
        let available = Kernel::available();
        let Some(name) = name else {
            return Ok(available[0]);
        };
        let found = available.into_iter().find(|kernel| kernel.name == name);
        found.ok_or_else(|| {
            if KERNEL_NAMES.contains(&name) {
                KernelError::Unavailable(name.to_owned())
            } else {
                KernelError::Unknown(name.to_owned())
            }
        })
    }

    /// One of [`KERNEL_NAMES`].
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Of whatever is compiled for more than one; the machine has it.
    pub(crate) fn instruction_set(&self) -> InstructionSet {
        self.set
    }

    fn encode(&self, chunk: ChunkMut<'_>) {
        // SAFETY: a kernel is only given out where the machine can run it.
        unsafe { (self.encode)(chunk) }
    }

    fn block_fn(&self, format: Format, sparse: bool, tokens: usize) -> BlockFn {
        let functions = match (format.precision(), sparse) {
            (Precision::Bf16, false) => &self.dense_bf16,
            (Precision::Bf16, true) => &self.sparse_bf16,
            (Precision::Int8, false) => self.dense_int8.of(format.group()),
            (Precision::Int8, true) => self.sparse_int8.of(format.group()),
            // Never stored sparse.
            (Precision::Int4, _) => self.dense_int4.of(format.group()),
        };
        functions[tokens - 1]
    }

    /// None where nothing is stored sparse.
    fn expand_fn(&self, format: Format) -> Option<ExpandFn> {
        match format.precision() {
            Precision::Bf16 => Some(self.expand_bf16),
            Precision::Int8 => Some(*self.expand_int8.of(format.group())),
            Precision::Int4 => None,
        }
    }
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here: Vec<_> = Kernel::available().iter().map(|kernel| kernel.name).collect();
        let here = here.join(", ");
        match self {
            KernelError::Unknown(name) => write!(
                f,
                "unknown kernel '{name}'; there are {}, and this machine runs {here}",
                KERNEL_NAMES.join(", ")
            ),
            KernelError::Unavailable(name) => {
                write!(f, "this machine cannot run the kernel '{name}'; it runs {here}")
            }
        }
    }
}

impl std::error::Error for KernelError {}
