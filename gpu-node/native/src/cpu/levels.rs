//! The levels: sets of processor features that functions are compiled for.
//!
//! A level's macro compiles a function for its features, and a level's `has_…` function tests for exactly
//! those. Both come from one list, so no function can use a feature that nothing tests for.

/// Declares a level: the macro `$name!(fn …)` and the test `$has()`.
///
/// The first argument is a dollar sign, for use in the macro that is declared.
macro_rules! level {
    ($dollar:tt $name:ident, $has:ident: $($feature:tt)*) => {
        macro_rules! $name {
            ($dollar item:item) => {
                $(#[target_feature(enable = $feature)])*
                $dollar item
            };
        }
        pub(crate) use $name;

        /// Returns whether the processor has every feature of the level of the same name.
        pub(super) fn $has() -> bool {
            true $(&& is_feature_detected!($feature))*
        }
    };
}

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected as is_feature_detected;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected as is_feature_detected;

// Haswell, Zen and later.
#[cfg(target_arch = "x86_64")]
level!($ avx2, has_avx2: "avx2" "fma" "f16c" "popcnt");

// Skylake-X and later.
#[cfg(target_arch = "x86_64")]
level!(
    $ avx512, has_avx512:
    "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx2" "fma" "f16c" "popcnt"
);

// Cascade Lake and later: dot products of integers (VNNI).
#[cfg(target_arch = "x86_64")]
level!(
    $ avx512vnni, has_avx512vnni:
    "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx2" "fma" "f16c" "popcnt"
);

// Ice Lake, Zen 4 and later: expanding moves of bytes and words (VBMI2).
#[cfg(target_arch = "x86_64")]
level!(
    $ avx512vbmi2, has_avx512vbmi2:
    "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512vbmi2" "avx2" "fma" "f16c" "popcnt"
);

// Sapphire Rapids, Zen 4 and later: dot products of bf16 pairs.
#[cfg(target_arch = "x86_64")]
level!(
    $ avx512bf16, has_avx512bf16:
    "avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512vnni" "avx512vbmi2" "avx512bf16" "avx2" "fma" "f16c"
    "popcnt"
);

// Every 64-bit ARM processor.
#[cfg(target_arch = "aarch64")]
level!($ neon, has_neon: "neon");

// Most of them since 2018 (ARMv8.2): dot products of bytes.
#[cfg(target_arch = "aarch64")]
level!($ neondot, has_neondot: "neon" "dotprod");

// Every processor of the architecture that the crate is built for.
level!($ scalar, has_scalar:);
