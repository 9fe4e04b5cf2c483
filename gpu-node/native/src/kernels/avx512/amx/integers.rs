//! Products of bytes in tiles, for several tokens at a time. AVX-512 multiplies fewer.
//!
//! A group of the layout is a tile of weights as it lies in memory: one row for each step, with 16 rows of
//! the matrix times four columns in it. The other tile holds inputs, one row for each token. With int8 weights
//! their 16 bits are two planes of bytes, the upper ones signed and the lower ones unsigned, whose products are
//! combined afterwards; with int4 weights they have 8 bits and one plane. Integer sums are exact: a token gets
//! the same bits as alone, where AVX-512 multiplies it.

use super::configure;
use crate::cpu::levels::avx512vbmi2;
use crate::kernels::CHUNK_TOKENS;
use crate::kernels::avx512::expand;
use crate::kernels::avx512::expand::by_moves::expand_int8;
use crate::kernels::avx512::int4::{Scales, add_minimums};
use crate::kernels::avx512::integers::{Dots, add_scaled, load_halves};
use crate::kernels::avx512::{BlockSums, Panel, TILES, Totals};
use crate::kernels::avx512::{each_token, load, load_totals, prefetch, store_totals};
use crate::kernels::expand_then_multiply::EXPAND_AHEAD;
use crate::prefetch::prefetch_bytes;
use crate::storage::{BLOCK_ROWS, EXPANDED_INT4_HEADER, MAX_GROUP, TILE_ROWS, VECTOR_BYTES};
use std::arch::asm;
use std::arch::x86_64::*;

/// Minimum number of tokens of int8 whose inputs are planes, for tiles. AVX-512 multiplies fewer tokens.
pub(in crate::kernels::avx512) const MIN_TOKENS: usize = 4;

/// Weights of a group: for each step a vector of the first tile and one of the second.
#[repr(align(64))]
struct Codes([u8; BLOCK_ROWS * MAX_GROUP]);

/// Products of a group with the upper and the lower plane, `[tile][plane][token][row]` i32. With one plane the lower
/// plane's are not written.
#[repr(align(64))]
struct Products([i32; TILES * 2 * CHUNK_TOKENS * TILE_ROWS]);

/// Bytes of one tile's and plane's products.
const PRODUCTS: usize = 4 * CHUNK_TOKENS * TILE_ROWS;

avx512vbmi2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for a chunk whose words are planes.
    pub(in crate::kernels::avx512) unsafe fn dense_int8<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_totals::<T>(sums);
        let mut products = Products([0; _]);
        let mut at = stream.as_ptr();
        // SAFETY: the stream has the groups and the panel has their words, by the contract.
        unsafe {
            configure::<GROUP, T>();
            for group in 0..groups {
                let scales = load_halves(at);
                at = at.add(2 * TILES * TILE_ROWS);
                // Further ahead than elsewhere: a tile is loaded at once, not one vector after another.
                for index in 0..GROUP / 4 * TILES {
                    prefetch(at.wrapping_add(2 * GROUP * BLOCK_ROWS + index * VECTOR_BYTES));
                }
                multiply::<GROUP, T>(at, panel, group, &mut products);
                at = at.add(GROUP * BLOCK_ROWS);
                add_products(&products, scales, panel, group, &mut totals);
            }
        }
        store_totals(&totals, sums);
    }
);

avx512vbmi2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for a chunk whose words are planes.
    pub(in crate::kernels::avx512) unsafe fn sparse_int8<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_totals::<T>(sums);
        let mut products = Products([0; _]);
        let mut codes = Codes([0; _]);
        let mut at = stream.as_ptr();
        // SAFETY: as above; `codes` has room for a group.
        unsafe {
            configure::<GROUP, T>();
            for group in 0..groups {
                let scales = load_halves(at);
                let group_at = at;
                at = expand_int8::<GROUP>(at.add(2 * TILES * TILE_ROWS), codes.0.as_mut_ptr());
                prefetch_bytes(at.wrapping_add(EXPAND_AHEAD), at.addr() - group_at.addr());
                multiply::<GROUP, T>(codes.0.as_ptr(), panel, group, &mut products);
                add_products(&products, scales, panel, group, &mut totals);
            }
        }
        store_totals(&totals, sums);
    }
);

avx512vbmi2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for a chunk whose words are planes and groups that [`dense_int4`](expand::dense_int4) expanded.
    pub(in crate::kernels::avx512) unsafe fn dense_int4<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_totals::<T>(sums);
        let mut products = Products([0; _]);
        let mut at = stream.as_ptr();
        // SAFETY: as above.
        unsafe {
            configure::<GROUP, T>();
            for group in 0..groups {
                let [scales, minimums] = expand::read_dense_int4_header(at);
                at = at.add(EXPANDED_INT4_HEADER);
                multiply_plane::<GROUP, T>(at, panel, group, &mut products);
                at = at.add(GROUP * BLOCK_ROWS);
                add_scaled(&products.of_one_plane(), scales, panel, group, &mut totals);
                add_minimums(minimums, panel, group, &mut totals);
            }
        }
        store_totals(&totals, sums);
    }
);

avx512vbmi2!(
    /// # Safety
    ///
    /// The contract of a `BlockFn`, for a chunk whose words are planes and sparse groups after their expansion.
    pub(in crate::kernels::avx512) unsafe fn sparse_int4<const GROUP: usize, const T: usize>(
        stream: &[u8],
        groups: usize,
        panel: Panel<'_>,
        sums: &mut BlockSums,
    ) {
        let mut totals = load_totals::<T>(sums);
        let mut products = Products([0; _]);
        let mut at = stream.as_ptr();
        // SAFETY: as above.
        unsafe {
            configure::<GROUP, T>();
            for group in 0..groups {
                let scales = Scales::load(at);
                at = at.add(EXPANDED_INT4_HEADER);
                multiply_plane::<GROUP, T>(at, panel, group, &mut products);
                at = at.add(GROUP * BLOCK_ROWS);
                let mut dots = scales.first_dots::<T>(panel, group);
                let products = products.of_one_plane::<T>();
                each_token!(T, TOKEN => {
                    for (dot, product) in dots[TOKEN].iter_mut().zip(products[TOKEN]) {
                        *dot = _mm512_add_epi32(*dot, product);
                    }
                });
                add_scaled(&dots, scales.quarters, panel, group, &mut totals);
            }
        }
        store_totals(&totals, sums);
    }
);

avx512vbmi2!(
    /// Multiplies a group of weights by both planes of its inputs.
    ///
    /// # Safety
    ///
    /// Tiles are configured; `codes` points to the steps of a group, the first and the second tile in turn;
    /// the panel has the group `group`, as planes.
    #[inline]
    unsafe fn multiply<const GROUP: usize, const T: usize>(
        codes: *const u8,
        panel: Panel<'_>,
        group: usize,
        products: &mut Products,
    ) {
        // SAFETY: guaranteed by the caller; tiles of products have T rows of 64 bytes each.
        unsafe {
            let inputs = panel.words.as_ptr().cast::<u8>().add(group * 2 * T * GROUP);
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "tileloadd tmm6, [{codes} + {step}]",
                "tileloadd tmm4, [{inputs} + {columns}]",
                "tileloadd tmm5, [{inputs} + {columns} + {plane}]",
                "tileloadd tmm7, [{codes} + {step} + {vector}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tdpbuud tmm1, tmm5, tmm6",
                "tdpbsud tmm2, tmm4, tmm7",
                "tdpbuud tmm3, tmm5, tmm7",
                "tilestored [{products} + {row}], tmm0",
                "tilestored [{products} + {row} + {products_1}], tmm1",
                "tilestored [{products} + {row} + {products_2}], tmm2",
                "tilestored [{products} + {row} + {products_3}], tmm3",
                codes = in(reg) codes,
                inputs = in(reg) inputs,
                products = in(reg) products.0.as_mut_ptr(),
                step = in(reg) TILES * VECTOR_BYTES,
                columns = in(reg) GROUP,
                row = in(reg) VECTOR_BYTES,
                vector = const VECTOR_BYTES,
                plane = const T * GROUP,
                products_1 = const PRODUCTS,
                products_2 = const 2 * PRODUCTS,
                products_3 = const 3 * PRODUCTS,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }
);

avx512vbmi2!(
    /// Multiplies a group of weights by the only plane of its inputs.
    ///
    /// # Safety
    ///
    /// As for [`multiply`].
    #[inline]
    unsafe fn multiply_plane<const GROUP: usize, const T: usize>(
        codes: *const u8,
        panel: Panel<'_>,
        group: usize,
        products: &mut Products,
    ) {
        // SAFETY: guaranteed by the caller; tiles of products have T rows of 64 bytes each.
        unsafe {
            let inputs = panel.words.as_ptr().cast::<u8>().add(group * T * GROUP);
            asm!(
                "tilezero tmm0",
                "tilezero tmm2",
                "tileloadd tmm6, [{codes} + {step}]",
                "tileloadd tmm4, [{inputs} + {columns}]",
                "tileloadd tmm7, [{codes} + {step} + {vector}]",
                "tdpbsud tmm0, tmm4, tmm6",
                "tdpbsud tmm2, tmm4, tmm7",
                "tilestored [{products} + {row}], tmm0",
                "tilestored [{products} + {row} + {products_2}], tmm2",
                codes = in(reg) codes,
                inputs = in(reg) inputs,
                products = in(reg) products.0.as_mut_ptr(),
                step = in(reg) TILES * VECTOR_BYTES,
                columns = in(reg) GROUP,
                row = in(reg) VECTOR_BYTES,
                vector = const VECTOR_BYTES,
                products_2 = const 2 * PRODUCTS,
                out("tmm0") _, out("tmm2") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags),
            );
        }
    }
);

impl Products {
    avx512vbmi2!(
        /// The products with the only plane.
        #[inline]
        fn of_one_plane<const T: usize>(&self) -> Dots<T> {
            let at = self.0.as_ptr().cast::<u8>();
            let mut dots = [[_mm512_setzero_si512(); TILES]; T];
            each_token!(T, TOKEN => {
                // SAFETY: a token has a vector in each tile of products.
                dots[TOKEN] = [0, 2 * PRODUCTS].map(|tile| unsafe { load(at.add(TOKEN * VECTOR_BYTES + tile)) });
            });
            dots
        }
    );
}

avx512vbmi2!(
    /// Adds a group's integer products with both planes, scaled by the scales of weights and inputs, as
    /// [`add_scaled`] does. int8 codes are the weights plus 128.
    ///
    /// # Safety
    ///
    /// The panel has the group `group`.
    #[inline]
    unsafe fn add_products<const T: usize>(
        products: &Products,
        scales: [__m512; TILES],
        panel: Panel<'_>,
        group: usize,
        totals: &mut Totals<T>,
    ) {
        let at = products.0.as_ptr().cast::<u8>();
        each_token!(T, TOKEN => {
            // SAFETY: guaranteed by the caller, and a token has a vector in each tile of products.
            unsafe {
                let place = group * T + TOKEN;
                let zero = _mm512_set1_epi32(-128 * *panel.sums.get_unchecked(place));
                let input = _mm512_set1_ps(*panel.scales.get_unchecked(place));
                let at = at.add(TOKEN * VECTOR_BYTES);
                let dots = [0, 2 * PRODUCTS].map(|tile| {
                    let (upper, lower) = (load(at.add(tile)), load(at.add(tile + PRODUCTS)));
                    _mm512_add_epi32(_mm512_slli_epi32::<8>(upper), _mm512_add_epi32(lower, zero))
                });
                let [first, second] = scales.map(|scale| _mm512_mul_ps(scale, input));
                let total = &mut totals[TOKEN];
                total[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[0]), first, total[0]);
                total[1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[1]), second, total[1]);
            }
        });
    }
);
