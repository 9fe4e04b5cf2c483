//! Seeded random numbers and masks.

/// The generator Xorshift64*, which gives the same numbers for a seed on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Returns approximately normal numbers: sums of twelve uniform draws.
    pub fn normals(&mut self, count: usize, deviation: f32) -> Vec<f32> {
        let normal = |random: &mut Random| (0..12).map(|_| random.uniform()).sum::<f64>() - 6.0;
        (0..count).map(|_| normal(self) as f32 * deviation).collect()
    }
}

/// Returns the bits of a mask file that keeps the weights for which `keep(row, col)` is true.
pub fn mask_of(rows: usize, cols: usize, mut keep: impl FnMut(usize, usize) -> bool) -> Vec<u8> {
    let stride = cols.div_ceil(8);
    let mut bytes = vec![0; rows * stride];
    for row in 0..rows {
        for col in 0..cols {
            bytes[row * stride + col / 8] |= u8::from(keep(row, col)) << (col % 8);
        }
    }
    bytes
}
