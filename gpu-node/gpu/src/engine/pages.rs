use super::{ModelConfig, PAGE_TOKENS};
use crate::device::{Buffer, BufferUse, Gpu};
use crate::fault::DeviceFault;

/// Keys and values, f16, in pages of [`PAGE_TOKENS`] positions of one sequence.
///
/// Each layer has a buffer of keys, `[pages, kv_heads, head_dim / 2, PAGE_TOKENS]`, and one of values,
/// `[pages, kv_heads, PAGE_TOKENS, head_dim / 2]`; an element is two neighbouring numbers of a head. The scheduler knows
/// which sequence holds which page.
pub(super) struct PagePool {
    /// Keys and values of each layer.
    pub(super) layers: Vec<(Buffer, Buffer)>,
    /// Whether a step has written to each page.
    written: Vec<bool>,
    bytes: u64,
}

impl PagePool {
    pub(super) fn new(gpu: &Gpu, config: &ModelConfig, pages: usize) -> Result<PagePool, DeviceFault> {
        let ModelConfig { layers, kv_heads, head_dim, .. } = *config;
        let bytes = [kv_heads, PAGE_TOKENS, head_dim, 2]
            .iter()
            .fold(pages as u64, |product, &factor| product.saturating_mul(factor as u64));
        let allocate = || gpu.allocate("the pages", bytes, BufferUse::Work);
        let layers: Vec<_> =
            (0..layers).map(|_| Ok((allocate()?, allocate()?))).collect::<Result<_, DeviceFault>>()?;
        Ok(PagePool { bytes: bytes * 2 * layers.len() as u64, layers, written: vec![false; pages] })
    }

    /// Bytes of all pages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a step has written to each page; only such pages may be read.
    pub(super) fn written(&self) -> &[bool] {
        &self.written
    }

    /// Notes that a step writes to pages.
    pub(super) fn mark(&mut self, pages: &[u32]) {
        pages.iter().for_each(|&page| self.written[page as usize] = true);
    }
}
