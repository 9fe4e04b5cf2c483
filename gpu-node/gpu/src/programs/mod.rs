//! The kernels of an engine, compiled for its model and device.

#[cfg(test)]
mod tests;

use crate::device::kernel::KernelKind;
use crate::device::{Gpu, Kernel};
use crate::fault::DeviceFault;
use crate::layout::Form;
use copal_native::engine::ModelConfig;

/// All kernels of an engine.
pub(crate) struct Kernels {
    pub(crate) embed: Kernel,
    pub(crate) norm: Kernel,
    pub(crate) norm_picked: Kernel,
    pub(crate) place: Kernel,
    pub(crate) attention: Kernel,
    pub(crate) attention_spans: Kernel,
    pub(crate) attention_join: Kernel,
    pub(crate) gate: Kernel,
    pub(crate) score: Kernel,
    pub(crate) candidates: Kernel,
    pub(crate) sum: Kernel,
    products: Vec<(Form, Product)>,
}

/// The product with a matrix of one form, for each tile of the device with its tokens, the smallest first.
pub(crate) struct Product(Vec<(u32, Kernel)>);

impl Kernels {
    /// Compiles the kernels for a model whose matrices have the given forms.
    pub(crate) fn new(gpu: &Gpu, config: &ModelConfig, forms: &[Form]) -> Result<Kernels, DeviceFault> {
        let tiles = gpu.tiles();
        let products =
            forms.iter().flat_map(|&form| tiles.iter().map(move |&tile| KernelKind::Product(form, tile)));
        let kinds: Vec<_> = KernelKind::OF_STEPS.into_iter().chain(products).collect();
        let mut kernels = gpu.compile(Some(config), &kinds)?.into_iter();
        let mut next = || kernels.next().expect("one for each kind");
        Ok(Kernels {
            embed: next(),
            norm: next(),
            norm_picked: next(),
            place: next(),
            attention: next(),
            attention_spans: next(),
            attention_join: next(),
            gate: next(),
            score: next(),
            candidates: next(),
            sum: next(),
            products: forms
                .iter()
                .map(|&form| (form, self::Product(tiles.iter().map(|&tile| (tile, next())).collect())))
                .collect(),
        })
    }

    /// The product with matrices of a form that was given to [`Kernels::new`].
    pub(crate) fn product(&self, form: Form) -> &Product {
        let found = self.products.iter().find(|(known, _)| *known == form);
        &found.expect("the engine compiled the forms of its weights").1
    }
}

impl Product {
    /// A kernel whose buffers are bound like those of every tile.
    pub(crate) fn any(&self) -> &Kernel {
        &self.0[0].1
    }

    /// The smallest tile that holds all tokens of a call, else the largest.
    pub(crate) fn for_tokens(&self, tokens: u32) -> &(u32, Kernel) {
        let fits = self.0.iter().find(|(tile, _)| *tile >= tokens);
        fits.unwrap_or(self.0.last().expect("every device has a tile"))
    }
}
