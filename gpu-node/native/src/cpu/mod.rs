//! The implementations that the processor can run, detected once.
//!
//! An [`Implementation`] is one instruction set's functions of every family: multiplication (`kernels`), loops
//! over f32 (`engine/vector.rs`), packing (`storage`), exchange of mask entries (`exchange`) and rounding (`rounding`). References to
//! implementations are only given out where the machine can run them, so a `&'static Implementation` is the
//! proof that every call of an unsafe function behind it relies on.

pub(crate) mod levels;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::engine::{VectorFns, vector};
use crate::exchange::{self, ExchangeFn};
use crate::kernels::{self, MultiplyFns};
use crate::rounding::{self, RoundingFn};
use crate::storage::{self, PackingFns};
use std::fmt;
use std::sync::OnceLock;

/// Names of the implementations for all machines, on most of them from the fastest to the slowest.
pub const IMPLEMENTATION_NAMES: [&str; 9] =
    ["amx", "avx512bf16", "avx512vbmi2", "avx512vnni", "avx512", "avx2", "neondot", "neon", "scalar"];

/// The functions of one instruction set.
///
/// All implementations pack the same bytes, exchange the same mask entries and round to the same codes. Products and f32 loops may
/// differ between implementations in the last bits; within one, a token gets the same bits alone and in a
/// batch.
pub struct Implementation {
    name: &'static str,
    /// Tests whether the machine has what the functions were compiled for.
    needs: fn() -> bool,
    /// Asks the system for permission to use the instructions. `None`: they need no permission.
    permission: Option<fn() -> bool>,
    pub(crate) multiply: MultiplyFns,
    pub(crate) vector: VectorFns,
    pub(crate) packing: PackingFns,
    pub(crate) exchange: ExchangeFn,
    pub(crate) rounding: RoundingFn,
}

#[cfg(target_arch = "x86_64")]
const AVX512_FNS: Implementation = Implementation {
    name: "avx512",
    needs: levels::has_avx512,
    permission: None,
    multiply: kernels::AVX512,
    vector: vector::avx512::FNS,
    packing: storage::packing::avx512::FNS,
    exchange: exchange::avx512::refine_whole,
    rounding: rounding::avx512::round_rows,
};

#[cfg(target_arch = "x86_64")]
const AVX512_VBMI2_FNS: Implementation = Implementation {
    name: "avx512vbmi2",
    needs: levels::has_avx512vbmi2,
    multiply: kernels::AVX512_VBMI2,
    packing: storage::packing::avx512vbmi2::FNS,
    ..AVX512_FNS
};

#[cfg(target_arch = "x86_64")]
static AMX: Implementation = Implementation {
    name: "amx",
    needs: || levels::has_avx512vbmi2() && x86::has_tiles(),
    permission: Some(x86::request_tiles),
    multiply: kernels::AMX,
    ..AVX512_VBMI2_FNS
};

#[cfg(target_arch = "x86_64")]
static AVX512_BF16: Implementation = Implementation {
    name: "avx512bf16",
    needs: levels::has_avx512bf16,
    multiply: kernels::AVX512_BF16,
    ..AVX512_VBMI2_FNS
};

#[cfg(target_arch = "x86_64")]
static AVX512_VBMI2: Implementation = AVX512_VBMI2_FNS;

#[cfg(target_arch = "x86_64")]
static AVX512_VNNI: Implementation = Implementation {
    name: "avx512vnni",
    needs: levels::has_avx512vnni,
    multiply: kernels::AVX512_VNNI,
    ..AVX512_FNS
};

#[cfg(target_arch = "x86_64")]
static AVX512: Implementation = AVX512_FNS;

#[cfg(target_arch = "x86_64")]
static AVX2: Implementation = Implementation {
    name: "avx2",
    needs: levels::has_avx2,
    permission: None,
    multiply: kernels::AVX2,
    vector: vector::avx2::FNS,
    packing: storage::packing::avx2::FNS,
    exchange: exchange::avx2::refine_whole,
    rounding: rounding::avx2::round_rows,
};

#[cfg(target_arch = "aarch64")]
const NEON_FNS: Implementation = Implementation {
    name: "neon",
    needs: levels::has_neon,
    permission: None,
    multiply: kernels::NEON,
    vector: vector::neon::FNS,
    packing: storage::packing::neon::FNS,
    exchange: exchange::neon::refine_whole,
    rounding: rounding::neon::round_rows,
};

#[cfg(target_arch = "aarch64")]
static NEON: Implementation = NEON_FNS;

#[cfg(target_arch = "aarch64")]
static NEON_DOT: Implementation =
    Implementation { name: "neondot", needs: levels::has_neondot, multiply: kernels::NEON_DOT, ..NEON_FNS };

static SCALAR: Implementation = Implementation {
    name: "scalar",
    needs: levels::has_scalar,
    permission: None,
    multiply: kernels::SCALAR,
    vector: vector::scalar::FNS,
    packing: storage::packing::scalar::FNS,
    exchange: exchange::scalar::refine_whole,
    rounding: rounding::scalar::round_rows,
};

/// Why no implementation was selected.
#[derive(Debug, PartialEq, Eq)]
pub enum SelectError {
    /// No implementation has this name on any machine.
    Unknown(String),
    /// This machine cannot run the implementation of this name.
    Unsupported(String),
}

/// Returns the implementations that the machine can run, the fastest first. Detects them at the first call.
fn detected() -> &'static [&'static Implementation] {
    static DETECTED: OnceLock<Vec<&'static Implementation>> = OnceLock::new();
    DETECTED.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        let all = {
            // A dot product of bf16 pairs takes as long as a multiply-add of f32 on Zen 4, and four times as long
            // on Intel's processors.
            let bf16_is_fast = levels::has_avx512bf16() && x86::is_amd();
            let [first, second] =
                if bf16_is_fast { [&AVX512_BF16, &AVX512_VBMI2] } else { [&AVX512_VBMI2, &AVX512_BF16] };
            [&AMX, first, second, &AVX512_VNNI, &AVX512, &AVX2, &SCALAR]
        };
        #[cfg(target_arch = "aarch64")]
        let all = [&NEON_DOT, &NEON, &SCALAR];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let all = [&SCALAR];
        all.into_iter().filter(|implementation| (implementation.needs)()).collect()
    })
}

impl Implementation {
    /// Names of the implementations that this machine can run, the fastest first. Asks for no permission.
    pub fn supported_names() -> Vec<&'static str> {
        detected().iter().map(|implementation| implementation.name).collect()
    }

    /// Returns every implementation that this machine can run, the fastest first. Asks the system for the
    /// permissions that they need and leaves out those that it refuses.
    pub fn supported() -> Vec<&'static Implementation> {
        detected().iter().copied().filter(|implementation| implementation.is_permitted()).collect()
    }

    /// Selects the implementation called `name`, or the fastest of this machine. Asks the system for the
    /// permission that it needs; where that is refused, another one is the fastest.
    pub fn select(name: Option<&str>) -> Result<&'static Implementation, SelectError> {
        let mut candidates = detected().iter().copied();
        let is_selected = |candidate: &&Implementation| {
            name.is_none_or(|name| candidate.name == name) && candidate.is_permitted()
        };
        candidates.find(is_selected).ok_or_else(|| {
            let name = name.expect("the scalar implementation runs everywhere");
            if IMPLEMENTATION_NAMES.contains(&name) {
                SelectError::Unsupported(name.to_owned())
            } else {
                SelectError::Unknown(name.to_owned())
            }
        })
    }

    /// The fastest implementation that needs no permission, for packing and checks of masks: those are the same
    /// in implementations that need one.
    pub(crate) fn fastest_without_permission() -> &'static Implementation {
        let mut candidates = detected().iter().copied();
        candidates.find(|candidate| candidate.permission.is_none()).unwrap_or(&SCALAR)
    }

    /// One of [`IMPLEMENTATION_NAMES`].
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn is_permitted(&self) -> bool {
        self.permission.is_none_or(|request| request())
    }
}

impl fmt::Debug for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Implementation({})", self.name)
    }
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let supported = Implementation::supported_names().join(", ");
        match self {
            SelectError::Unknown(name) => write!(
                f,
                "unknown kernel '{name}'; there are {}, and this machine runs {supported}",
                IMPLEMENTATION_NAMES.join(", ")
            ),
            SelectError::Unsupported(name) => {
                write!(f, "this machine cannot run the kernel '{name}'; it runs {supported}")
            }
        }
    }
}

impl std::error::Error for SelectError {}
