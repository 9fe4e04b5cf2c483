//! Sources of the kernels for the refinement of masks.

use super::template::TILE_PRODUCT;
use crate::device::kernel::ExchangeKind;

const BUFFERS: &str = include_str!("shaders/exchange.wgsl");
const ROUNDS: &str = include_str!("shaders/exchange_rounds.wgsl");

/// The source of a kernel for a second moment in this number of parts.
pub(super) fn source(kind: ExchangeKind, parts: usize) -> String {
    let kernel = match kind {
        ExchangeKind::Product => [TILE_PRODUCT, include_str!("shaders/exchange_product.wgsl")],
        ExchangeKind::Error => ["", include_str!("shaders/exchange_error.wgsl")],
        ExchangeKind::Whole => [ROUNDS, include_str!("shaders/exchange_whole.wgsl")],
        ExchangeKind::Groups => [ROUNDS, include_str!("shaders/exchange_groups.wgsl")],
    };
    format!("{BUFFERS}{}{}", bindings(parts), kernel.concat())
}

/// The parts of H, and the function that reads one.
fn bindings(parts: usize) -> String {
    let part =
        |index| format!("@group(1) @binding({}) var<storage, read> moment{index}: array<f32>;\n", index + 7);
    let case = |index| format!("    case {index}u: {{ return moment{index}[at]; }}\n");
    let (parts, cases): (String, String) = ((0..parts).map(part).collect(), (1..parts).map(case).collect());
    format!(
        "{parts}fn moment_at(part: u32, at: u32) -> f32 {{\n  switch part {{\n{cases}    default: {{ return moment0[at]; }}\n  }}\n}}\n"
    )
}
