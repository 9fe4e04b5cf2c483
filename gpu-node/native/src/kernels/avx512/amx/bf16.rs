//! bf16 weights and inputs in tiles, for any number of tokens.
//!
//! A step of the layout is a row of a tile of weights as it lies in memory: 16 rows of the matrix times two columns. The other
//! tile holds inputs, one row for each token. The sums of f32 stay in tiles from group to group. They come in another order than
//! those of AVX-512, which is therefore used for no number of tokens: the products of a token do not depend on the tokens
//! beside it.
//!
//! Each function is one block of assembler, because the compiler does not know that tiles keep their numbers between two blocks.

use super::configure;
use crate::cpu::levels::avx512vbmi2;
use crate::kernels::avx512::{AHEAD, BlockSums, Panel, TILES};
use crate::storage::{BLOCK_ROWS, VECTOR_BYTES};
use std::arch::asm;
use std::arch::x86_64::_mm512_setzero_si512;
use std::mem::MaybeUninit;

/// Columns of a group. A tile has half of them.
const GROUP: usize = 64;
/// Bytes of half a dense group.
const HALF: usize = BLOCK_ROWS * GROUP;
/// Bytes from a row of a tile to the next one: of sums, of weights, and of inputs.
const ROW: usize = 2 * GROUP;
/// Bytes of the masks of a sparse group.
const HEADER: usize = GROUP * BLOCK_ROWS / 8;
const _: () = assert!(ROW == TILES * VECTOR_BYTES && ROW == size_of::<f32>() * BLOCK_ROWS);

/// Half a dense group.
#[repr(align(64))]
struct HalfGroup([MaybeUninit<u8>; HALF]);

/// Loads the sums into tiles 0 and 1.
macro_rules! load_sums {
    () => {
        "tileloadd tmm0, [{sums} + {row}]
        tileloadd tmm1, [{sums} + {row} + {vector}]"
    };
}

/// Stores what [`load_sums`] has loaded.
macro_rules! store_sums {
    () => {
        "tilestored [{sums} + {row}], tmm0
        tilestored [{sums} + {row} + {vector}], tmm1"
    };
}

/// Adds the products of the half group at `$weights`. Its inputs are `$columns` bytes behind those of the group.
macro_rules! add_products {
    ($weights:literal, $columns:literal) => {
        concat!(
            "tileloadd tmm4, [{inputs} + {row} + ",
            $columns,
            "]\n",
            "tileloadd tmm6, [",
            $weights,
            " + {row}]\n",
            "tileloadd tmm7, [",
            $weights,
            " + {row} + {vector}]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7"
        )
    };
}

/// Repeats lines for each vector of half a group, `\i`.
macro_rules! each_vector {
    ($($lines:tt)*) => {
        concat!(
            ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n",
            $($lines)*,
            "\n.endr"
        )
    };
}

/// Expands half a group, whose masks are `$masks` bytes behind those of the group, to `expanded`.
///
/// `zmm1` is zero: an expanding move into a copy of it waits for no earlier one. A mask is read once, into a general register,
/// which takes less than reading it into both kinds.
macro_rules! expand_half {
    ($masks:literal) => {
        concat!(
            each_vector!(
                ".if \\i & 1\n",
                "prefetcht0 [{at} + {ahead}]\n",
                ".endif\n",
                "mov {kept:e}, dword ptr [{masks} + 4*\\i + ",
                $masks,
                "]\n",
                "kmovd k1, {kept:e}\n",
                "vmovdqa64 zmm0, zmm1\n",
                "vpexpandw zmm0 {{k1}}, zmmword ptr [{at}]\n",
                "popcnt {kept:e}, {kept:e}\n",
                "lea {at}, [{at} + 2*{kept}]\n",
                "vmovdqa64 zmmword ptr [{expanded} + 64*\\i], zmm0"
            ),
            // The next masks, which `at + ahead` skips.
            "\nprefetcht0 [{masks} + {ahead} + ",
            $masks,
            "]\n",
            "prefetcht0 [{masks} + {ahead} + {vector} + ",
            $masks,
            "]"
        )
    };
}

/// Defines a [`BlockFn`](crate::kernels::BlockFn) for dense groups, that executes `$prefetch` before each half of a group.
macro_rules! dense_fn {
    ($(#[$contract:meta])* $name:ident, $prefetch:expr) => {
        avx512vbmi2!(
            $(#[$contract])*
            ///
            /// # Safety
            ///
            /// The contract of a `BlockFn`, for a chunk whose words are rows.
            pub(in crate::kernels::avx512) unsafe fn $name<const T: usize>(
                stream: &[u8],
                groups: usize,
                panel: Panel<'_>,
                sums: &mut BlockSums,
            ) {
                // SAFETY: the stream has the groups and the panel has their words, by the contract; the sums of `T` tokens are
                // rows of two tiles.
                unsafe {
                    configure::<GROUP, T>();
                    asm!(
                        load_sums!(),
                        "2:",
                        $prefetch,
                        add_products!("{weights}", "0"),
                        "add {weights}, {half}",
                        $prefetch,
                        add_products!("{weights}", "{vector}"),
                        "add {weights}, {half}",
                        "add {inputs}, {input_group}",
                        "dec {groups}",
                        "jnz 2b",
                        store_sums!(),
                        weights = inout(reg) stream.as_ptr() => _,
                        groups = inout(reg) groups => _,
                        inputs = inout(reg) panel.words.as_ptr() => _,
                        sums = in(reg) sums.0.as_mut_ptr(),
                        row = in(reg) ROW,
                        vector = const VECTOR_BYTES,
                        half = const HALF,
                        input_group = const T * ROW,
                        out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    );
                }
            }
        );
    };
}

dense_fn!(
    /// Multiplies groups from memory.
    dense,
    each_vector!("prefetcht0 [{weights} + 64*\\i + 6144]")
);
dense_fn!(
    /// Multiplies groups from the nearest cache.
    near,
    ""
);
// A number in the text above, because `near` would not use an operand.
const _: () = assert!(AHEAD == 6144);

avx512vbmi2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for a chunk whose words are rows.
    pub(in crate::kernels::avx512) unsafe fn sparse<const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let mut expanded = HalfGroup([MaybeUninit::uninit(); _]);
        let masks = stream.as_ptr();
        // SAFETY: the stream has the groups, each as the values behind the masks that count them, and the panel has their words, by
        // the contract; `expanded` has room for half a group; the sums of `T` tokens are rows of two tiles.
        unsafe {
            configure::<GROUP, T>();
            asm!(
                load_sums!(),
                "2:",
                expand_half!("0"),
                add_products!("{expanded}", "0"),
                expand_half!("128"),
                add_products!("{expanded}", "{vector}"),
                "mov {masks}, {at}",
                "add {at}, {header}",
                "add {inputs}, {input_group}",
                "dec {groups}",
                "jnz 2b",
                store_sums!(),
                masks = inout(reg) masks => _,
                at = inout(reg) masks.add(HEADER) => _,
                kept = out(reg) _,
                groups = inout(reg) groups => _,
                inputs = inout(reg) panel.words.as_ptr() => _,
                expanded = in(reg) expanded.0.as_mut_ptr(),
                sums = in(reg) sums.0.as_mut_ptr(),
                row = in(reg) ROW,
                vector = const VECTOR_BYTES,
                header = const HEADER,
                ahead = const AHEAD,
                input_group = const T * ROW,
                out("zmm0") _, in("zmm1") _mm512_setzero_si512(), out("k1") _,
                out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
);
