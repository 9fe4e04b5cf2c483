//! AMX: matrix products in tiles. Everything else is AVX-512.

pub(super) mod bf16;
pub(super) mod integers;

use crate::cpu::levels::avx512vbmi2;
use crate::storage::VECTOR_BYTES;
use std::arch::asm;
use std::cell::Cell;

/// The configuration of the tile registers: 0 to 3 are products, 4 and 5 inputs, 6 and 7 weights.
#[repr(align(64))]
struct Shape([u8; 64]);

const fn shape(tokens: usize, group: usize) -> Shape {
    let mut shape = [0; 64];
    shape[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        let (rows, bytes) = match tile {
            0..4 => (tokens, VECTOR_BYTES),
            4..6 => (tokens, group),
            _ => (group / 4, VECTOR_BYTES),
        };
        shape[16 + 2 * tile] = bytes as u8;
        shape[48 + tile] = rows as u8;
        tile += 1;
    }
    Shape(shape)
}

thread_local! {
    /// The tokens and columns that the thread's tiles are configured for.
    static CONFIGURED: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

avx512vbmi2!(
    /// Configures the thread's tiles, unless they are. That takes as long as the products of several groups, so they stay so until
    /// [`release`].
    ///
    /// # Safety
    ///
    /// The machine has tiles, and the process has permission to use them.
    #[inline]
    unsafe fn configure<const GROUP: usize, const T: usize>() {
        if CONFIGURED.replace(Some((T, GROUP))) == Some((T, GROUP)) {
            return;
        }
        let shape: &'static Shape = const { &shape(T, GROUP) };
        // SAFETY: the shape is valid, and no tile is in use.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const shape.0, options(nostack, readonly, preserves_flags))
        }
    }
);

avx512vbmi2!(
    /// Releases the thread's tiles. Tiles in use keep a processor from deep sleep and are saved at every context switch.
    ///
    /// # Safety
    ///
    /// As for [`configure`].
    pub(super) unsafe fn release() {
        if CONFIGURED.take().is_some() {
            // SAFETY: guaranteed by the caller.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
        }
    }
);
