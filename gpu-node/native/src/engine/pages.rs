use super::ModelConfig;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Tokens of a page: the lanes of a 512-bit vector of f32, so that a page is one vector of scores.
pub const PAGE_TOKENS: usize = 16;

/// Keys and values, f16, in pages of [`PAGE_TOKENS`] positions of one sequence.
///
/// f16 because it halves what f32 reads and rounds eight times finer than bf16; what does not fit
/// is stored as the largest number. A page holds for each layer and head the keys as
/// `[head_dim, PAGE_TOKENS]`, then the values as `[PAGE_TOKENS, head_dim]`. Its memory is taken when
/// it is first written, and kept. Who holds which page is the scheduler's to know.
pub(crate) struct PagePool {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    pages: Vec<Option<Box<[f16]>>>,
    written: usize,
}

impl PagePool {
    pub(crate) fn new(config: &ModelConfig, pages: usize) -> PagePool {
        PagePool {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            pages: vec![None; pages],
            written: 0,
        }
    }

    /// Pages that there are.
    pub(crate) fn total(&self) -> usize {
        self.pages.len()
    }

    /// Pages that have memory.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Whether a page has memory, so that it can be read.
    pub(crate) fn is_written(&self, id: u32) -> bool {
        self.pages[id as usize].is_some()
    }

    /// Gives a page memory unless it has some; false when the machine has none.
    #[must_use]
    pub(crate) fn prepare(&mut self, id: u32) -> bool {
        let page = &mut self.pages[id as usize];
        if page.is_some() {
            return true;
        }
        let length = self.layers * self.kv_heads * 2 * PAGE_TOKENS * self.head_dim;
        let mut memory = Vec::new();
        if memory.try_reserve_exact(length).is_err() {
            return false;
        }
        memory.resize(length, f16::ZERO);
        *page = Some(memory.into_boxed_slice());
        self.written += 1;
        true
    }

    /// Keys `[head_dim, PAGE_TOKENS]` and values `[PAGE_TOKENS, head_dim]` of a taken page.
    pub(crate) fn read(&self, id: u32, layer: usize, head: usize) -> (&[f16], &[f16]) {
        let size = PAGE_TOKENS * self.head_dim;
        let page = self.pages[id as usize].as_deref().expect("a taken page has memory");
        page[(layer * self.kv_heads + head) * 2 * size..][..2 * size].split_at(size)
    }

    /// Writes the keys and values of one position, `[kv_heads, head_dim]` each.
    pub(crate) fn write(&mut self, id: u32, layer: usize, slot: usize, keys: &[f32], values: &[f32]) {
        let size = PAGE_TOKENS * self.head_dim;
        let page = self.pages[id as usize].as_deref_mut().expect("a taken page has memory");
        let planes = page[layer * self.kv_heads * 2 * size..].chunks_exact_mut(2 * size);
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

/// To the nearest f16; what is larger than the largest becomes it, what is no number stays none.
fn round(values: &[f32], rounded: &mut [f16; 64]) {
    let mut clamped = [0f32; 64];
    let largest = f16::MAX.to_f32();
    for (clamped, value) in clamped.iter_mut().zip(values) {
        *clamped = value.clamp(-largest, largest);
    }
    rounded[..values.len()].convert_from_f32_slice(&clamped[..values.len()]);
}
