//! Shuffles that put packed values where a byte of a mask has its ones; where it has none they ask
//! for a byte that does not exist, which gives 0.

/// Where the n-th one of a byte takes its value: n, and 255 for the zeros.
const SOURCES: [[u8; 8]; 256] = {
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
};

/// For 8 bytes.
pub(super) static EXPAND_BYTES: [[u8; 8]; 256] = SOURCES;

/// For 8 words of two bytes.
pub(super) static EXPAND_WORDS: [[u8; 16]; 256] = {
    let mut table = [[255; 16]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            if SOURCES[byte][bit] != 255 {
                table[byte][2 * bit] = 2 * SOURCES[byte][bit];
                table[byte][2 * bit + 1] = 2 * SOURCES[byte][bit] + 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
};
