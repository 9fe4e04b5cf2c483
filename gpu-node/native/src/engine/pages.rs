use super::ModelConfig;
use crate::poison::Mapping;
use crate::prefetch::prefetch_bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::MmapOptions;
use std::io;
use std::ops::Range;

/// Tokens of a page: as many as a 512-bit vector has f32 lanes, so that the scores of a page fill one vector.
pub const PAGE_TOKENS: usize = 16;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvPrecision {
    /// Half the bandwidth of f32, rounded eight times finer than bf16. A number out of its range is stored as the largest one.
    #[default]
    F16,
    /// 8-bit integers with an f32 scale for the key of each head and token, and one for its value: the largest magnitude is 127.
    Int8,
}

/// Keys and values in pages of [`PAGE_TOKENS`] positions of one sequence.
///
/// A page holds a [`Plane`] of each head of each layer: the keys as `[head_dim, PAGE_TOKENS]`, then the values as
/// `[PAGE_TOKENS, head_dim]`, then the scales if there are any. All pages are one mapping, in huge pages of the machine if it
/// has them: a step reads a few kilobytes of each page for each layer, and would otherwise wait for the translation of each
/// address. The machine provides memory when a page is first written, and it stays. The scheduler knows which sequence holds
/// which page.
pub(crate) struct PagePool {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    precision: KvPrecision,
    /// `[pages, layers, kv_heads]` planes.
    memory: Mapping,
    /// Whether a step has written to each page.
    written: Vec<bool>,
}

/// The scales of the tokens of a page: those of their keys, and those of their values.
pub(crate) type Scales = [[f32; PAGE_TOKENS]; 2];

/// Keys and values of one head of one layer of one page.
pub(crate) struct Plane<'a, T> {
    /// `[head_dim, PAGE_TOKENS]`.
    pub(crate) keys: &'a [T],
    /// `[PAGE_TOKENS, head_dim]`.
    pub(crate) values: &'a [T],
    /// `None` where the elements are the numbers themselves.
    pub(crate) scales: Option<&'a Scales>,
}

/// An element of keys and values as they are stored.
///
/// # Safety
///
/// Every pattern of bits is valid, and alignment is that of an f32 at most.
pub(crate) unsafe trait Stored: Copy {
    /// Whether planes have scales.
    const SCALED: bool;
}

// SAFETY: every 16 bits are an f16.
unsafe impl Stored for f16 {
    const SCALED: bool = false;
}

// SAFETY: every byte is an i8.
unsafe impl Stored for i8 {
    const SCALED: bool = true;
}

impl KvPrecision {
    /// The precision of a name, `f16` or `int8`.
    pub fn named(name: &str) -> Result<KvPrecision, String> {
        match name {
            "f16" => Ok(KvPrecision::F16),
            "int8" => Ok(KvPrecision::Int8),
            _ => Err(format!("the precision of keys and values is {name}, expected f16 or int8")),
        }
    }
}

impl PagePool {
    /// Pages that take no memory yet; an error if the machine cannot map so many.
    pub(crate) fn new(config: &ModelConfig, pages: usize, precision: KvPrecision) -> io::Result<PagePool> {
        let ModelConfig { layers, kv_heads, head_dim, .. } = *config;
        let plane = plane_bytes(head_dim, precision);
        let bytes =
            [layers, kv_heads, plane].iter().try_fold(pages, |product, &factor| product.checked_mul(factor));
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Mapping::new(MmapOptions::new().len(bytes))?;
        // Huge pages only make it faster; a kernel without them returns an error.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(PagePool { layers, kv_heads, head_dim, precision, memory, written: vec![false; pages] })
    }

    /// How keys and values are stored, which says the `T` of [`PagePool::read`].
    pub(crate) fn precision(&self) -> KvPrecision {
        self.precision
    }

    /// Whether a step has written to each page; only such pages may be read.
    pub(crate) fn written(&self) -> &[bool] {
        &self.written
    }

    /// The bytes of the plane of a head of a layer of a page.
    fn plane_range(&self, id: u32, layer: usize, head: usize) -> Range<usize> {
        let bytes = plane_bytes(self.head_dim, self.precision);
        let start = ((id as usize * self.layers + layer) * self.kv_heads + head) * bytes;
        start..start + bytes
    }

    /// Begins to read keys and values of a page.
    pub(crate) fn prefetch(&self, id: u32, layer: usize, head: usize) {
        let plane = &self.memory[self.plane_range(id, layer, head)];
        prefetch_bytes(plane.as_ptr(), plane.len());
    }

    /// Keys and values of a page, stored in the precision of `T`.
    pub(crate) fn read<T: Stored>(&self, id: u32, layer: usize, head: usize) -> Plane<'_, T> {
        let (elements, scales) =
            self.memory[self.plane_range(id, layer, head)].split_at(self.element_bytes::<T>());
        // SAFETY: `Stored` says that its bits are valid. A mapping and the bytes of a plane are multiples of an f32's.
        let ((_, elements, _), (_, scales, _)) =
            unsafe { (elements.align_to::<T>(), scales.align_to::<Scales>()) };
        let (keys, values) = elements.split_at(PAGE_TOKENS * self.head_dim);
        Plane { keys, values, scales: if T::SCALED { scales.first() } else { None } }
    }

    /// The bytes of the keys and values of a plane.
    fn element_bytes<T: Stored>(&self) -> usize {
        2 * PAGE_TOKENS * self.head_dim * size_of::<T>()
    }

    /// Writes the keys and values of one position, `[kv_heads, head_dim]` each.
    pub(crate) fn write(&mut self, id: u32, layer: usize, slot: usize, keys: &[f32], values: &[f32]) {
        self.written[id as usize] = true;
        let heads = keys.chunks_exact(self.head_dim).zip(values.chunks_exact(self.head_dim));
        for (head, (keys, values)) in heads.enumerate() {
            match self.precision {
                KvPrecision::F16 => {
                    let (key_plane, value_plane, _) = self.planes::<f16>(id, layer, head);
                    write_plane(key_plane, value_plane, slot, keys, values, round, round);
                }
                KvPrecision::Int8 => {
                    let scales = [keys, values].map(|numbers| largest_magnitude(numbers) / 127.0);
                    let [of_keys, of_values] = scales.map(|scale| {
                        // Of zeros alone the inverse would be infinite.
                        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                        move |numbers: &[f32], rounded: &mut [i8; PART]| quantise(numbers, inverse, rounded)
                    });
                    let (key_plane, value_plane, plane_scales) = self.planes::<i8>(id, layer, head);
                    write_plane(key_plane, value_plane, slot, keys, values, of_keys, of_values);
                    let [key_scales, value_scales] = &mut plane_scales[0];
                    [key_scales[slot], value_scales[slot]] = scales;
                }
            }
        }
    }

    /// As [`PagePool::read`], to write.
    fn planes<T: Stored>(
        &mut self,
        id: u32,
        layer: usize,
        head: usize,
    ) -> (&mut [T], &mut [T], &mut [Scales]) {
        let (range, bytes) = (self.plane_range(id, layer, head), self.element_bytes::<T>());
        let (elements, scales) = self.memory[range].split_at_mut(bytes);
        // SAFETY: as in `read`.
        let ((_, elements, _), (_, scales, _)) =
            unsafe { (elements.align_to_mut::<T>(), scales.align_to_mut::<Scales>()) };
        let (keys, values) = elements.split_at_mut(PAGE_TOKENS * self.head_dim);
        (keys, values, scales)
    }
}

/// Bytes of a [`Plane`].
fn plane_bytes(head_dim: usize, precision: KvPrecision) -> usize {
    let elements = 2 * PAGE_TOKENS * head_dim;
    match precision {
        KvPrecision::F16 => elements * size_of::<f16>(),
        KvPrecision::Int8 => elements + size_of::<Scales>(),
    }
}

/// Numbers that are converted at once.
const PART: usize = 64;

/// Writes the key and the value of one head at one position, converted by `to_keys` and `to_values`.
fn write_plane<T: Stored + Default>(
    key_plane: &mut [T],
    value_plane: &mut [T],
    slot: usize,
    keys: &[f32],
    values: &[f32],
    to_keys: impl Fn(&[f32], &mut [T; PART]),
    to_values: impl Fn(&[f32], &mut [T; PART]),
) {
    let mut converted = [T::default(); PART];
    for (part, keys) in keys.chunks(PART).enumerate() {
        to_keys(keys, &mut converted);
        let rows = key_plane[part * PART * PAGE_TOKENS..].chunks_exact_mut(PAGE_TOKENS);
        rows.zip(&converted[..keys.len()]).for_each(|(row, key)| row[slot] = *key);
    }
    let row = &mut value_plane[slot * values.len()..][..values.len()];
    for (row, values) in row.chunks_mut(PART).zip(values.chunks(PART)) {
        to_values(values, &mut converted);
        row.copy_from_slice(&converted[..values.len()]);
    }
}

/// The largest magnitude; NaN where a number is not finite.
fn largest_magnitude(numbers: &[f32]) -> f32 {
    // As integers, the bits of magnitudes are in the order of the numbers, and those of what is not finite are last.
    let largest = numbers.iter().map(|number| number.abs().to_bits()).fold(0, u32::max);
    if largest < f32::INFINITY.to_bits() { f32::from_bits(largest) } else { f32::NAN }
}

/// Rounds the products with `inverse`, −127 to 127, to the nearest integers.
fn quantise(numbers: &[f32], inverse: f32, rounded: &mut [i8; PART]) {
    // The sum's unit in the last place is 1, so that its lowest byte is the integer in two's complement.
    const UNIT: f32 = (3 << 22) as f32;
    for (rounded, number) in rounded.iter_mut().zip(numbers) {
        *rounded = (number * inverse + UNIT).to_bits() as i8;
    }
}

/// Rounds to the nearest f16. Numbers out of range become the largest one; NaN stays NaN.
fn round(values: &[f32], rounded: &mut [f16; PART]) {
    let mut clamped = [0f32; PART];
    let largest = f16::MAX.to_f32();
    for (clamped, value) in clamped.iter_mut().zip(values) {
        *clamped = value.clamp(-largest, largest);
    }
    rounded[..values.len()].convert_from_f32_slice(&clamped[..values.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_DIM: usize = 66;

    /// Writes one position and reads its key and value back.
    fn stored(keys: &[f32], values: &[f32]) -> [Vec<f32>; 2] {
        let config = ModelConfig {
            hidden: 8,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: HEAD_DIM,
            intermediate: 8,
            vocab: 8,
            context: 64,
            eps: 1e-5,
            rope: vec![1.0; HEAD_DIM / 2],
        };
        let slot = 5;
        let mut pool = PagePool::new(&config, 2, KvPrecision::Int8).unwrap();
        pool.write(1, 0, slot, keys, values);
        let plane = pool.read::<i8>(1, 0, 0);
        let [key_scale, value_scale] = plane.scales.unwrap().map(|scales| scales[slot]);
        let key = |index: usize| f32::from(plane.keys[index * PAGE_TOKENS + slot]) * key_scale;
        let value = |index: usize| f32::from(plane.values[slot * HEAD_DIM + index]) * value_scale;
        [(0..HEAD_DIM).map(key).collect(), (0..HEAD_DIM).map(value).collect()]
    }

    #[test]
    fn eight_bits_round_to_half_a_step_of_the_largest_magnitude() {
        for size in [1e-30, 0.01, 1.0, 3e4, 1e30] {
            let keys: Vec<f32> = (0..HEAD_DIM).map(|index| size * (index as f32 * 0.7).sin()).collect();
            let values: Vec<f32> = keys.iter().map(|key| key * -3.0).collect();
            for (found, written) in stored(&keys, &values).iter().zip([&keys, &values]) {
                let largest = written.iter().fold(0f32, |largest, number| largest.max(number.abs()));
                for (found, written) in found.iter().zip(written) {
                    assert!((found - written).abs() <= largest / 253.0, "{found} for {written} of {largest}");
                }
            }
        }
    }

    #[test]
    fn eight_bits_keep_zeros_and_show_what_is_not_finite() {
        let zeros = [0.0; HEAD_DIM];
        for broken in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut keys = zeros;
            keys[7] = broken;
            let [keys, values] = stored(&keys, &zeros);
            assert!(keys.iter().all(|key| key.is_nan()), "{broken}");
            assert_eq!(values, zeros);
        }
    }
}
