//! The kernels: their sources for a model, compiled for a device.

mod template;
#[cfg(test)]
mod tests;

use crate::device::Gpu;
use crate::fault::DeviceFault;
use crate::layout::Form;
use copal_native::engine::ModelConfig;
use template::{Template, TileSize};
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutDescriptor,
    BindGroupLayoutEntry, BindingType, Buffer, BufferBindingType, BufferSize, ComputePipeline,
    ComputePipelineDescriptor, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor,
    ShaderSource, ShaderStages,
};

/// Bytes from one [`Call`](crate::plan::Call) to the next: no device wants uniforms further apart.
pub(crate) const CALL_STRIDE: u64 = 256;
/// Bytes of a call.
const CALL_BYTES: u64 = 48;
/// Tokens that a product takes at a time. The smallest tile that holds all tokens of a call is used, else the largest.
pub(crate) const TILES: [u32; 3] = [1, 4, 16];
/// Candidates of a row of logits, unless the vocabulary is smaller: one for each thread of the kernel.
pub(crate) const CANDIDATES: usize = 256;
/// Parts of a vocabulary, of as many tokens each: one for each thread of the kernel that lists candidates.
pub(crate) const VOCAB_PARTS: usize = 256;
/// The widest head that the attention kernel takes.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// How a kernel uses a buffer.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Read,
    Write,
    Uniform,
}

/// A compiled kernel. Its bind group 0 is that of the call, its bind group 1 holds its own buffers.
pub(crate) struct Kernel {
    pub(crate) pipeline: ComputePipeline,
    layout: BindGroupLayout,
}

/// The product with a matrix of one form, compiled for each size of [`TILES`].
pub(crate) struct Product {
    pub(crate) pipelines: Vec<ComputePipeline>,
    layout: BindGroupLayout,
}

/// All kernels of an engine.
pub(crate) struct Kernels {
    call: BindGroupLayout,
    pub(crate) embed: Kernel,
    pub(crate) norm: Kernel,
    /// Norms the rows that a call picks.
    pub(crate) norm_picked: Kernel,
    pub(crate) place: Kernel,
    pub(crate) attention: Kernel,
    pub(crate) gate: Kernel,
    pub(crate) score: Kernel,
    pub(crate) candidates: Kernel,
    pub(crate) sum: Kernel,
    products: Vec<(Form, Product)>,
}

impl Kernels {
    /// Compiles the kernels for a model whose matrices have the given forms.
    pub(crate) fn new(gpu: &Gpu, config: &ModelConfig, forms: &[Form]) -> Result<Kernels, DeviceFault> {
        gpu.run("the kernels", || {
            let compiler = Compiler { gpu, template: Template::new(config), call: call_layout(gpu) };
            let kernel = |source, uses: &[Use]| compiler.kernel(source, uses);
            use Use::{Read, Uniform, Write};
            let template = &compiler.template;
            Kernels {
                embed: kernel(template.embed(), &[Read, Write, Uniform]),
                norm: kernel(template.norm(false), &[Read, Read, Write]),
                norm_picked: kernel(template.norm(true), &[Read, Read, Write]),
                place: kernel(template.place(), &[Write, Read, Read, Write, Write]),
                attention: kernel(template.attention(), &[Read, Read, Read, Write]),
                gate: kernel(template.gate(), &[Write, Read]),
                score: kernel(template.score(), &[Read, Write]),
                candidates: kernel(template.candidates(), &[Read, Write]),
                sum: kernel(template.sum(), &[Read, Write]),
                products: forms.iter().map(|&form| (form, compiler.product(form))).collect(),
                call: compiler.call,
            }
        })
    }

    /// The product with matrices of a form that was given to [`Kernels::new`].
    pub(crate) fn product(&self, form: Form) -> &Product {
        let found = self.products.iter().find(|(known, _)| *known == form);
        &found.expect("the engine compiled the forms of its weights").1
    }

    /// Binds the data of a step.
    pub(crate) fn bind_step(&self, gpu: &Gpu, step: &Buffer) -> BindGroup {
        let call = wgpu::BufferBinding { buffer: step, offset: 0, size: BufferSize::new(CALL_BYTES) };
        gpu.device.create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &self.call,
            entries: &[
                BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(call) },
                BindGroupEntry { binding: 1, resource: step.as_entire_binding() },
            ],
        })
    }
}

impl Kernel {
    /// Binds the buffers of the kernel, in order.
    pub(crate) fn bind(&self, gpu: &Gpu, buffers: &[&Buffer]) -> BindGroup {
        bind(gpu, &self.layout, buffers)
    }
}

impl Product {
    /// Binds the inputs, the outputs, the shape and the matrix.
    pub(crate) fn bind(&self, gpu: &Gpu, buffers: &[&Buffer]) -> BindGroup {
        bind(gpu, &self.layout, buffers)
    }
}

/// Binds buffers, in order.
pub(crate) fn bind(gpu: &Gpu, layout: &BindGroupLayout, buffers: &[&Buffer]) -> BindGroup {
    let entries: Vec<_> = buffers
        .iter()
        .enumerate()
        .map(|(binding, buffer)| BindGroupEntry {
            binding: binding as u32,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    gpu.device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries })
}

struct Compiler<'a> {
    gpu: &'a Gpu,
    template: Template,
    call: BindGroupLayout,
}

impl Compiler<'_> {
    fn kernel(&self, source: String, uses: &[Use]) -> Kernel {
        let layout = layout(self.gpu, uses);
        Kernel { pipeline: self.pipeline(&layout, source), layout }
    }

    fn product(&self, form: Form) -> Product {
        let matrix = vec![Use::Read; form.buffers()];
        let layout = layout(self.gpu, &[&[Use::Read, Use::Write, Use::Uniform], &matrix[..]].concat());
        let compile = |&tokens: &u32| {
            self.pipeline(&layout, self.template.product(form, TileSize { tokens: tokens as usize }))
        };
        Product { pipelines: TILES.iter().map(compile).collect(), layout }
    }

    fn pipeline(&self, own: &BindGroupLayout, source: String) -> ComputePipeline {
        pipeline(self.gpu, [&self.call, own], source)
    }
}

/// The part of kernels that multiply matrices by tiles of 64 rows and 64 columns.
pub(crate) const TILE_PRODUCT: &str = include_str!("shaders/tile_product.wgsl");

/// Compiles a kernel whose buffers are in two bind groups.
pub(crate) fn pipeline(gpu: &Gpu, groups: [&BindGroupLayout; 2], source: String) -> ComputePipeline {
    let device = &gpu.device;
    let source = ShaderSource::Wgsl(source.into());
    let module = device.create_shader_module(ShaderModuleDescriptor { label: None, source });
    let layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &groups.map(Some),
        immediate_size: 0,
    });
    device.create_compute_pipeline(&ComputePipelineDescriptor {
        label: None,
        layout: Some(&layout),
        module: &module,
        entry_point: Some("main"),
        // Every kernel writes its memory before it reads it.
        compilation_options: PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..PipelineCompilationOptions::default()
        },
        cache: None,
    })
}

/// The layout of a bind group.
pub(crate) fn layout(gpu: &Gpu, uses: &[Use]) -> BindGroupLayout {
    let entry = |(binding, usage): (usize, &Use)| {
        let ty = match usage {
            Use::Read => BufferBindingType::Storage { read_only: true },
            Use::Write => BufferBindingType::Storage { read_only: false },
            Use::Uniform => BufferBindingType::Uniform,
        };
        buffer_entry(binding as u32, ty, false)
    };
    let entries: Vec<_> = uses.iter().enumerate().map(entry).collect();
    gpu.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn call_layout(gpu: &Gpu) -> BindGroupLayout {
    let entries = [
        buffer_entry(0, BufferBindingType::Uniform, true),
        buffer_entry(1, BufferBindingType::Storage { read_only: true }, false),
    ];
    gpu.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn buffer_entry(binding: u32, ty: BufferBindingType, has_dynamic_offset: bool) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}
