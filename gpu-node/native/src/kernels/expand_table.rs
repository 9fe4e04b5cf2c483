//! Shuffles that move packed values to the places of the ones in a byte of a mask. At the places of zeros
//! they select a byte that does not exist, which gives 0.

/// A table aligned to cache lines, so that no entry crosses one.
#[repr(align(64))]
pub(super) struct Table<T>(pub(super) [T; 256]);

/// Shuffles of 8 bytes.
pub(super) static EXPAND_BYTES: Table<[u8; 8]> = Table({
    let mut table = [[255; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut taken) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte][bit] = taken;
                taken += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
});

/// Shuffles of 8 bytes that lie in the upper half of a register.
#[cfg(target_arch = "x86_64")]
pub(super) static EXPAND_UPPER_BYTES: Table<[u8; 8]> = Table({
    let mut table = EXPAND_BYTES.0;
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            if table[byte][bit] != 255 {
                table[byte][bit] += 8;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
});

/// Shuffles of 8 words of two bytes.
pub(super) static EXPAND_WORDS: Table<[u8; 16]> = Table({
    let mut table = [[255; 16]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            let source = EXPAND_BYTES.0[byte][bit];
            if source != 255 {
                table[byte][2 * bit] = 2 * source;
                table[byte][2 * bit + 1] = 2 * source + 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
});
