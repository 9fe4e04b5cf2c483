use super::ModelConfig;
use crate::poison::Mapping;
use crate::prefetch::prefetch_bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::MmapOptions;
use std::io;

/// Tokens of a page: as many as a 512-bit vector has f32 lanes, so that the scores of a page fill one vector.
pub const PAGE_TOKENS: usize = 16;

/// Keys and values, f16, in pages of [`PAGE_TOKENS`] positions of one sequence.
///
/// f16 takes half the bandwidth of f32 and rounds eight times finer than bf16; a number out of its range is stored as the
/// largest one. A page holds for each layer and head the keys as `[head_dim, PAGE_TOKENS]`, then the values as
/// `[PAGE_TOKENS, head_dim]`. All pages are one mapping, in huge pages of the machine if it has them: a step reads a few
/// kilobytes of each page for each layer, and would otherwise wait for the translation of each address. The machine
/// provides memory when a page is first written, and it stays. The scheduler knows which sequence holds which page.
pub(crate) struct PagePool {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    /// `[pages, layers, kv_heads, 2, PAGE_TOKENS * head_dim]` of f16.
    memory: Mapping,
    /// Whether a step has written to each page.
    written: Vec<bool>,
}

impl PagePool {
    /// Pages that take no memory yet; an error if the machine cannot map so many.
    pub(crate) fn new(config: &ModelConfig, pages: usize) -> io::Result<PagePool> {
        let ModelConfig { layers, kv_heads, head_dim, .. } = *config;
        let bytes = [layers, kv_heads, 2, PAGE_TOKENS, head_dim, size_of::<f16>()]
            .iter()
            .try_fold(pages, |product, &factor| product.checked_mul(factor));
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Mapping::new(MmapOptions::new().len(bytes))?;
        // Huge pages only make it faster; a kernel without them returns an error.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(memmap2::Advice::HugePage);
        Ok(PagePool { layers, kv_heads, head_dim, memory, written: vec![false; pages] })
    }

    /// Whether a step has written to each page; only such pages may be read.
    pub(crate) fn written(&self) -> &[bool] {
        &self.written
    }

    /// Elements of the keys (or values) of one head of one layer of one page.
    fn plane(&self) -> usize {
        PAGE_TOKENS * self.head_dim
    }

    /// Offset of the keys of a head of a layer of a page, in elements.
    fn offset(&self, id: u32, layer: usize, head: usize) -> usize {
        ((id as usize * self.layers + layer) * self.kv_heads + head) * 2 * self.plane()
    }

    /// Begins to read keys and values of a page.
    pub(crate) fn prefetch(&self, id: u32, layer: usize, head: usize) {
        let (keys, values) = self.read(id, layer, head);
        prefetch_bytes(keys.as_ptr().cast(), size_of_val(keys) + size_of_val(values));
    }

    /// Keys `[head_dim, PAGE_TOKENS]` and values `[PAGE_TOKENS, head_dim]` of a page.
    pub(crate) fn read(&self, id: u32, layer: usize, head: usize) -> (&[f16], &[f16]) {
        // SAFETY: a mapping is aligned to more than two bytes, and every 16 bits are an f16.
        let (_, elements, _) = unsafe { self.memory.align_to::<f16>() };
        elements[self.offset(id, layer, head)..][..2 * self.plane()].split_at(self.plane())
    }

    /// Writes the keys and values of one position, `[kv_heads, head_dim]` each.
    pub(crate) fn write(&mut self, id: u32, layer: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let (start, size) = (self.offset(id, layer, 0), self.plane());
        self.written[id as usize] = true;
        // SAFETY: as above.
        let (_, elements, _) = unsafe { self.memory.align_to_mut::<f16>() };
        let planes = elements[start..].chunks_exact_mut(2 * size);
        let heads = keys.chunks_exact(self.head_dim).zip(values.chunks_exact(self.head_dim));
        let mut rounded = [f16::ZERO; 64];
        for (plane, (keys, values)) in planes.zip(heads) {
            let (key_plane, value_plane) = plane.split_at_mut(size);
            for (part, keys) in keys.chunks(64).enumerate() {
                round(keys, &mut rounded);
                let rows = key_plane[part * 64 * PAGE_TOKENS..].chunks_exact_mut(PAGE_TOKENS);
                rows.zip(&rounded[..keys.len()]).for_each(|(row, key)| row[slot] = *key);
            }
            let row = &mut value_plane[slot * self.head_dim..][..self.head_dim];
            for (row, values) in row.chunks_mut(64).zip(values.chunks(64)) {
                round(values, &mut rounded);
                row.copy_from_slice(&rounded[..values.len()]);
            }
        }
    }
}

/// Rounds to the nearest f16. Numbers out of range become the largest one; NaN stays NaN.
fn round(values: &[f32], rounded: &mut [f16; 64]) {
    let mut clamped = [0f32; 64];
    let largest = f16::MAX.to_f32();
    for (clamped, value) in clamped.iter_mut().zip(values) {
        *clamped = value.clamp(-largest, largest);
    }
    rounded[..values.len()].convert_from_f32_slice(&clamped[..values.len()]);
}
