//! The sources of the kernels for a model: constants in front, and repeated lines written out.

use crate::device::kernel::{CalibrationKind, Constants, KernelKind, MAX_HEAD_DIM, constants};
use crate::layout::Form;
use copal_native::engine::ModelConfig;

/// The part of kernels that multiply matrices by tiles of 64 rows and 64 columns.
pub(super) const TILE_PRODUCT: &str = include_str!("shaders/tile_product.wgsl");
/// The state of an online softmax over positions, and the attention to a span.
const ATTENDED: &str = include_str!("shaders/attended.wgsl");
const ATTEND: &str = include_str!("shaders/attend.wgsl");
const CALL: &str = include_str!("shaders/call.wgsl");
/// Columns of a stage: those of 8 slices and 16 tokens fill the 16 KiB of shared memory that every device has.
const STAGE: usize = 32;
const LINEAR: &str = include_str!("shaders/linear.wgsl");

/// The tokens that a product takes at a time: one, or whole quads.
#[derive(Clone, Copy)]
struct TileSize {
    tokens: usize,
}

impl TileSize {
    fn quads(self) -> usize {
        self.tokens.div_ceil(4)
    }

    /// Whether the inputs are copied into shared memory, a stage of columns at a time: where each is used often.
    fn is_staged(self) -> bool {
        self.tokens > 4
    }

    /// The inputs of the tokens of a quad in a column of the stage.
    fn inputs(self, quad: usize, col: &str) -> String {
        if self.is_staged() {
            return format!("local[(slice * STAGE + {col} - from_col) * QUADS + {quad}u]");
        }
        self.stored_inputs(quad, col)
    }

    /// The inputs of the tokens of a quad in a column, in the memory of the device.
    fn stored_inputs(self, quad: usize, col: &str) -> String {
        if self.tokens == 1 {
            return format!("x[x0 + {col}]");
        }
        let inputs: Vec<_> = (0..4).map(|token| format!("x[x{} + {col}]", 4 * quad + token)).collect();
        format!("vec4<f32>({})", inputs.join(", "))
    }
}

/// Writes sources for one model.
pub(super) struct Template {
    constants: String,
    head_parts: usize,
}

impl Template {
    pub(super) fn new(config: &ModelConfig) -> Template {
        assert!(config.head_dim <= MAX_HEAD_DIM, "checked when the engine was made");
        let Constants { counts, numbers } = constants(config);
        let counts = counts.map(|(name, count)| format!("const {name} = {count}u;\n")).concat();
        // Rust prints the shortest number that reads back as the same f32.
        let numbers = numbers.map(|(name, number)| format!("const {name} = f32({number:?});\n")).concat();
        let constants = counts + &numbers;
        Template { constants, head_parts: config.head_dim.div_ceil(64) }
    }

    /// The source of a kernel.
    pub(super) fn source(&self, kind: KernelKind) -> String {
        match kind {
            KernelKind::Embed => self.with_constants(include_str!("shaders/embed.wgsl")),
            KernelKind::Norm => self.norm(false),
            KernelKind::NormPicked => self.norm(true),
            KernelKind::Place => self.with_constants(include_str!("shaders/place.wgsl")),
            KernelKind::Attention => self.attention(&[ATTEND, include_str!("shaders/attention.wgsl")]),
            KernelKind::AttentionSpans => {
                self.attention(&[ATTEND, include_str!("shaders/attention_spans.wgsl")])
            }
            KernelKind::AttentionJoin => self.attention(&[include_str!("shaders/attention_join.wgsl")]),
            KernelKind::Gate => self.with_constants(include_str!("shaders/gate.wgsl")),
            KernelKind::Score => self.with_constants(include_str!("shaders/score.wgsl")),
            KernelKind::Candidates => self.with_constants(include_str!("shaders/candidates.wgsl")),
            KernelKind::Sum => self.with_constants(include_str!("shaders/sum.wgsl")),
            KernelKind::Product(form, tile) => self.product(form, TileSize { tokens: tile as usize }),
            KernelKind::Calibration(kind) => self.calibration(kind),
            KernelKind::Exchange(..) => unreachable!("they need no model"),
        }
    }

    /// The norm of all rows of a call, or of those that it picks.
    fn norm(&self, picked: bool) -> String {
        let row = if picked { "let row = step[call.picks + id.x];" } else { "let row = id.x;" };
        self.with_constants(&include_str!("shaders/norm.wgsl").replace("{{row}}", row))
    }

    fn attention(&self, parts: &[&str]) -> String {
        self.with_constants(&self.repeat_dims(&(ATTENDED.to_owned() + &parts.concat())))
    }

    /// Repeats the lines for the elements of a head that a thread sums.
    fn repeat_dims(&self, source: &str) -> String {
        let part = |index: usize, text: &str| text.replace("{i}", &index.to_string());
        repeat(source, "@dims", self.head_parts, part)
    }

    /// A step of the calibration of a block, which declares its call.
    fn calibration(&self, kind: CalibrationKind) -> String {
        let source = match kind {
            CalibrationKind::Linear => &[TILE_PRODUCT, include_str!("shaders/block_linear.wgsl")].concat(),
            CalibrationKind::Statistic => &[TILE_PRODUCT, include_str!("shaders/statistic.wgsl")].concat(),
            CalibrationKind::Rotate => include_str!("shaders/rotate.wgsl"),
            CalibrationKind::Attention => &self.repeat_dims(include_str!("shaders/block_attention.wgsl")),
            CalibrationKind::Residual => include_str!("shaders/residual.wgsl"),
            CalibrationKind::Check => include_str!("shaders/check.wgsl"),
        };
        format!("{}{source}", self.constants)
    }

    /// The product with a matrix.
    fn product(&self, form: Form, tile: TileSize) -> String {
        let columns = match form {
            Form::Sparse => include_str!("shaders/sparse.wgsl"),
            Form::SparseInt4 => include_str!("shaders/sparse_int4.wgsl"),
            Form::Bf16 => include_str!("shaders/bf16.wgsl"),
            Form::Int8 => include_str!("shaders/int8.wgsl"),
            Form::Int4 => include_str!("shaders/int4.wgsl"),
        };
        let (open, rest) = columns.split_once("//columns").expect("every form has columns");
        let (columns, close) = rest.split_once("//close").unwrap_or((rest, ""));
        let source = LINEAR
            .replace("{{open}}", open.trim())
            .replace("{{columns}}", columns.trim())
            .replace("{{close}}", close.trim())
            .replace("{{stores}}", &stores(tile));
        let token = |index: usize, text: &str| text.replace("{i}", &index.to_string());
        let source = repeat(&source, "@token", tile.tokens, token);
        let source = repeat(&source, "@staged", usize::from(tile.is_staged()), |_, text| text.to_owned());
        let source = repeat(&source, "@quad", tile.quads(), |quad, text| {
            text.replace("{{x}}", &tile.inputs(quad, "col"))
                .replace("{{x+1}}", &tile.inputs(quad, "col + 1u"))
                .replace("{{copied}}", &tile.stored_inputs(quad, "copied"))
                .replace("{q}", &quad.to_string())
        });
        let (tokens, group) = (tile.tokens, form.group());
        let sums = if tokens == 1 { "f32" } else { "vec4<f32>" };
        let (quads, stage) = (tile.quads(), if tile.is_staged() { STAGE } else { group });
        let local = if tile.is_staged() { 8 * STAGE * quads } else { 256 };
        let counts =
            [("TOKENS", tokens), ("GROUP", group), ("QUADS", quads), ("STAGE", stage), ("LOCAL", local)];
        let constants = counts.map(|(name, count)| format!("const {name} = {count}u;\n")).concat();
        let names = format!("alias Sums = {sums};\n{constants}");
        format!("{names}{CALL}{}{source}", bindings(form))
    }

    fn with_constants(&self, source: &str) -> String {
        format!("{}{CALL}{source}", self.constants)
    }
}

/// The buffers of a matrix, after those of every product.
fn bindings(form: Form) -> String {
    let names: &[&str] = match form {
        Form::Sparse => &["masks", "starts", "values"],
        Form::SparseInt4 => &["scales", "masks", "starts", "values"],
        Form::Bf16 => &["words"],
        Form::Int8 | Form::Int4 => &["scales", "words"],
    };
    let binding = |(index, name): (usize, &&str)| {
        format!("@group(1) @binding({}) var<storage, read> {name}: array<u32>;\n", index + 3)
    };
    let mut source: String = names.iter().enumerate().map(binding).collect();
    if form == Form::Int8 {
        source += "fn half_at(at: u32) -> f32 { return unpack2x16float(scales[at >> 1u] >> ((at & 1u) * 16u)).x; }\n";
    }
    source
}

/// A function for each quad that stores its sums.
fn stores(tile: TileSize) -> String {
    if tile.tokens == 1 {
        return "fn store0(token: u32, row: u32, sums: f32) { put(token, row, sums); }\n".to_owned();
    }
    let store = |quad: usize| {
        let puts: String = ["x", "y", "z", "w"]
            .iter()
            .enumerate()
            .map(|(index, lane)| format!(" put(token + {}u, row, sums.{lane});", 4 * quad + index))
            .collect();
        format!("fn store{quad}(token: u32, row: u32, sums: vec4<f32>) {{{puts} }}\n")
    };
    (0..tile.quads()).map(store).collect()
}

/// Replaces each run of lines that begin with `mark` by `count` copies of it, each changed by `copy`.
fn repeat(source: &str, mark: &str, count: usize, copy: impl Fn(usize, &str) -> String) -> String {
    let (mut out, mut run) = (String::new(), String::new());
    for line in source.lines().chain([""]) {
        if let Some(rest) = line.trim_start().strip_prefix(mark) {
            run += rest;
            run.push('\n');
            continue;
        }
        if !run.is_empty() {
            (0..count).for_each(|index| out += &copy(index, &run));
            run.clear();
        }
        out += line;
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::repeat;

    #[test]
    fn runs_of_marked_lines_are_repeated_as_a_whole() {
        let source = "a\n  @x b{i}\n  @x c{i}\nd\n@x e";
        let copy = |index: usize, text: &str| text.replace("{i}", &index.to_string());
        let found = repeat(source, "@x", 2, copy);
        let words: Vec<_> = found.split_whitespace().collect();
        assert_eq!(words, ["a", "b0", "c0", "b1", "c1", "d", "e", "e"]);
    }
}
