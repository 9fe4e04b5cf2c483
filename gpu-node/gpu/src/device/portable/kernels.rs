//! Compiled kernels of wgpu.

use super::commands::group_work;
use super::template::Template;
use super::{Portable, exchange};
use crate::device::kernel::{CALL_BYTES, CalibrationKind, KernelKind};
use crate::fault::DeviceFault;
use copal_native::engine::ModelConfig;
use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutDescriptor,
    BindGroupLayoutEntry, BindingType, Buffer, BufferBindingType, BufferSize, ComputePipeline,
    ComputePipelineDescriptor, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor,
    ShaderSource, ShaderStages,
};

/// Parts of a second moment at most. With parts of 128 MiB, which every driver takes, 11,584 columns fit.
const MAX_PARTS: usize = 4;
/// Buffers of a kernel that refines masks beside those: the diagonal, weights, masks, gradients and figures; and the data of a
/// step.
const OTHER_BUFFERS: usize = 6;

/// How a kernel uses a buffer.
#[derive(Clone, Copy)]
enum Use {
    Read,
    Write,
    Uniform,
}

/// A compiled kernel of an engine. Its bind group 0 is that of the call, its bind group 1 holds its own buffers.
pub(crate) struct Kernel {
    pub(super) pipeline: ComputePipeline,
    /// See [`group_work`].
    pub(super) group_work: u64,
    layout: BindGroupLayout,
}

impl Portable {
    /// Compiles kernels, in order.
    pub(in super::super) fn compile(
        &self,
        config: Option<&ModelConfig>,
        kinds: &[KernelKind],
    ) -> Result<Vec<Kernel>, DeviceFault> {
        let (template, call) = (config.map(Template::new), call_layout(self));
        let kernel = |&kind: &KernelKind| {
            let layout = layout(self, &uses(kind));
            let source = match kind {
                KernelKind::Exchange(kind, parts) => exchange::source(kind, parts),
                _ => template.as_ref().expect("all other kernels need a model").source(kind),
            };
            Kernel {
                pipeline: pipeline(self, [&call, &layout], source),
                group_work: group_work(kind),
                layout,
            }
        };
        self.run("the kernels", || kinds.iter().map(kernel).collect())
    }

    /// Parts of a second moment that kernels take at most.
    pub(in super::super) fn max_moment_parts(&self) -> usize {
        let buffers = self.device.limits().max_storage_buffers_per_shader_stage as usize;
        buffers.saturating_sub(OTHER_BUFFERS).min(MAX_PARTS)
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
        KernelKind::Attention | KernelKind::AttentionSpans => vec![Read, Read, Read, Write],
        KernelKind::Gate => vec![Write, Read],
        KernelKind::AttentionJoin | KernelKind::Score | KernelKind::Sum => vec![Read, Write],
        KernelKind::Candidates => vec![Write, Write],
        KernelKind::Product(form, _) => [&[Read, Write, Uniform], &vec![Read; form.buffers()][..]].concat(),
        KernelKind::Calibration(kind) => match kind {
            CalibrationKind::Linear | CalibrationKind::Statistic => vec![Read, Read, Write],
            CalibrationKind::Rotate => vec![Write, Read, Read],
            CalibrationKind::Attention => vec![Read, Read, Read, Write],
            CalibrationKind::Residual | CalibrationKind::Check => vec![Read, Write],
        },
        KernelKind::Exchange(_, parts) => {
            let own = [Uniform, Read, Write, Write, Write, Uniform, Read];
            [&own[..], &vec![Read; parts][..]].concat()
        }
    }
}

/// Binds buffers, in order.
fn bind(device: &Portable, layout: &BindGroupLayout, buffers: &[&Buffer]) -> BindGroup {
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

/// Compiles a kernel whose buffers are in two bind groups.
fn pipeline(device: &Portable, groups: [&BindGroupLayout; 2], source: String) -> ComputePipeline {
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
fn layout(device: &Portable, uses: &[Use]) -> BindGroupLayout {
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
