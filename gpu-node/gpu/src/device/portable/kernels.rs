//! Compiled kernels of wgpu.

use super::Portable;
use super::template::Template;
use crate::device::BufferUse;
use crate::device::kernel::{CALL_BYTES, KernelKind};
use crate::fault::DeviceFault;
use copal_native::engine::ModelConfig;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutDescriptor,
    BindGroupLayoutEntry, BindingType, Buffer, BufferBindingType, BufferSize, ComputePipeline,
    ComputePipelineDescriptor, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor,
    ShaderSource, ShaderStages,
};

/// How a kernel uses a buffer.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Read,
    Write,
    Uniform,
}

/// A compiled kernel of an engine. Its bind group 0 is that of the call, its bind group 1 holds its own buffers.
pub(crate) struct Kernel {
    pub(super) pipeline: ComputePipeline,
    layout: BindGroupLayout,
}

impl Portable {
    /// Compiles kernels for a model, in order.
    pub(in super::super) fn compile(
        &self,
        config: &ModelConfig,
        kinds: &[KernelKind],
    ) -> Result<Vec<Kernel>, DeviceFault> {
        let (template, call) = (Template::new(config), call_layout(self));
        let kernel = |&kind: &KernelKind| {
            let layout = layout(self, &uses(kind));
            Kernel { pipeline: pipeline(self, [&call, &layout], template.source(kind)), layout }
        };
        self.run("the kernels", || kinds.iter().map(kernel).collect())
    }

    /// Binds the data of a step.
    pub(in super::super) fn bind_step(&self, step: &Buffer) -> BindGroup {
        let call = wgpu::BufferBinding { buffer: step, offset: 0, size: BufferSize::new(CALL_BYTES) };
        self.device.create_bind_group(&BindGroupDescriptor {
            label: None,
            layout: &call_layout(self),
            entries: &[
                BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(call) },
                BindGroupEntry { binding: 1, resource: step.as_entire_binding() },
            ],
        })
    }
}

impl Kernel {
    /// Binds the buffers of the kernel, in order.
    pub(in super::super) fn bind(&self, device: &Portable, buffers: &[&Buffer]) -> BindGroup {
        bind(device, &self.layout, buffers)
    }
}

/// How a kernel of an engine uses its buffers.
fn uses(kind: KernelKind) -> Vec<Use> {
    use Use::{Read, Uniform, Write};
    match kind {
        KernelKind::Embed => vec![Read, Write, Uniform],
        KernelKind::Norm | KernelKind::NormPicked => vec![Read, Read, Write],
        KernelKind::Place => vec![Write, Read, Read, Write, Write],
        KernelKind::Attention => vec![Read, Read, Read, Write],
        KernelKind::Gate => vec![Write, Read],
        KernelKind::Score | KernelKind::Candidates | KernelKind::Sum => vec![Read, Write],
        KernelKind::Product(form, _) => [&[Read, Write, Uniform], &vec![Read; form.buffers()][..]].concat(),
    }
}

/// Binds buffers, in order.
pub(crate) fn bind(device: &Portable, layout: &BindGroupLayout, buffers: &[&Buffer]) -> BindGroup {
    let entries: Vec<_> = buffers
        .iter()
        .enumerate()
        .map(|(binding, buffer)| BindGroupEntry {
            binding: binding as u32,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    device.device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries })
}

/// The part of kernels that multiply matrices by tiles of 64 rows and 64 columns.
pub(crate) const TILE_PRODUCT: &str = include_str!("shaders/tile_product.wgsl");

/// Compiles a kernel whose buffers are in two bind groups.
pub(crate) fn pipeline(device: &Portable, groups: [&BindGroupLayout; 2], source: String) -> ComputePipeline {
    let device = &device.device;
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
pub(crate) fn layout(device: &Portable, uses: &[Use]) -> BindGroupLayout {
    let entry = |(binding, usage): (usize, &Use)| {
        let ty = match usage {
            Use::Read => BufferBindingType::Storage { read_only: true },
            Use::Write => BufferBindingType::Storage { read_only: false },
            Use::Uniform => BufferBindingType::Uniform,
        };
        buffer_entry(binding as u32, ty, false)
    };
    let entries: Vec<_> = uses.iter().enumerate().map(entry).collect();
    device.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn call_layout(device: &Portable) -> BindGroupLayout {
    let entries = [
        buffer_entry(0, BufferBindingType::Uniform, true),
        buffer_entry(1, BufferBindingType::Storage { read_only: true }, false),
    ];
    device.device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn buffer_entry(binding: u32, ty: BufferBindingType, has_dynamic_offset: bool) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}

/// A small buffer that kernels read as a whole, with these contents.
pub(crate) fn uniform(device: &Portable, words: &[u32]) -> Result<Buffer, DeviceFault> {
    let buffer = device.allocate("a shape", 4 * words.len() as u64, BufferUse::Uniform.into())?;
    device.run("a shape", || device.write(&buffer, words))?;
    Ok(buffer)
}
