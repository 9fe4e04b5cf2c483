//! The kernels of the refinement, compiled for a device and a number of parts of H.

use crate::device::portable::Portable;
use crate::device::portable::kernels::{TILE_PRODUCT, Use, layout, pipeline};
use crate::fault::DeviceFault;
use wgpu::{BindGroupLayout, ComputePipeline};

/// Rows and columns of a tile of the product.
pub(super) const TILE: usize = 64;
/// Parts of H at most. With parts of 128 MiB, which every driver takes, 11,584 columns fit.
const MAX_PARTS: usize = 4;
/// Buffers of a kernel beside the parts of H: the diagonal, weights, masks, gradients and figures.
const OTHER_BUFFERS: usize = 5;

const BUFFERS: &str = include_str!("../device/portable/shaders/exchange.wgsl");
const ROUNDS: &str = include_str!("../device/portable/shaders/exchange_rounds.wgsl");

/// The kernels of the refinement. All have the same buffers.
pub(super) struct Kernels {
    /// Bind group 0: the shape, the diagonal of H, and its parts.
    pub(super) moment: BindGroupLayout,
    /// Bind group 1: the rows of a piece.
    pub(super) rows: BindGroupLayout,
    /// Computes `E H`. A workgroup takes a tile.
    pub(super) product: ComputePipeline,
    /// Computes the errors of rows. A workgroup takes a row, as in the next two.
    pub(super) error: ComputePipeline,
    /// Refines whole rows.
    pub(super) whole: ComputePipeline,
    /// Refines within groups.
    pub(super) groups: ComputePipeline,
}

impl Kernels {
    /// Compiles the kernels for H in this number of parts.
    pub(super) fn new(gpu: &Portable, parts: usize) -> Result<Kernels, DeviceFault> {
        let buffers = format!("{BUFFERS}{}", bindings(parts));
        gpu.run("the kernels", || {
            let moment = layout(gpu, &[&[Use::Uniform, Use::Read], &vec![Use::Read; parts][..]].concat());
            let rows = layout(gpu, &[Use::Uniform, Use::Read, Use::Write, Use::Write, Use::Write]);
            let compile =
                |source: &[&str]| pipeline(gpu, [&moment, &rows], buffers.clone() + &source.concat());
            Kernels {
                product: compile(&[
                    TILE_PRODUCT,
                    include_str!("../device/portable/shaders/exchange_product.wgsl"),
                ]),
                error: compile(&[include_str!("../device/portable/shaders/exchange_error.wgsl")]),
                whole: compile(&[ROUNDS, include_str!("../device/portable/shaders/exchange_whole.wgsl")]),
                groups: compile(&[ROUNDS, include_str!("../device/portable/shaders/exchange_groups.wgsl")]),
                moment,
                rows,
            }
        })
    }
}

/// The parts of H that a kernel can have on a device.
pub(super) fn max_parts(gpu: &Portable) -> usize {
    let buffers = gpu.device.limits().max_storage_buffers_per_shader_stage as usize;
    buffers.saturating_sub(OTHER_BUFFERS).min(MAX_PARTS)
}

/// The parts of H, and the function that reads one.
fn bindings(parts: usize) -> String {
    let part =
        |index| format!("@group(0) @binding({}) var<storage, read> moment{index}: array<f32>;\n", index + 2);
    let case = |index| format!("    case {index}u: {{ return moment{index}[at]; }}\n");
    let (parts, cases): (String, String) = ((0..parts).map(part).collect(), (1..parts).map(case).collect());
    format!(
        "{parts}fn moment_at(part: u32, at: u32) -> f32 {{\n  switch part {{\n{cases}    default: {{ return moment0[at]; }}\n  }}\n}}\n"
    )
}
