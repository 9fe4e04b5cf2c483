//! The kernels in CUDA C++: their sources, names and constants.

use crate::device::kernel::{CalibrationKind, Constants, ExchangeKind, KernelKind, constants};
use crate::layout::Form;
use copal_native::engine::ModelConfig;

/// The beginning of every source.
const COMMON: &str = include_str!("kernels/common.cuh");
const POINTWISE: &str = include_str!("kernels/pointwise.cu");
const TILE: &str = include_str!("kernels/tile.cuh");
/// The sources of the kernels of a step, in the order in which they are compiled as one.
const STEP: &[&str] = &[
    include_str!("kernels/mma.cuh"),
    include_str!("kernels/product.cu"),
    include_str!("kernels/sparse.cu"),
    include_str!("kernels/dense.cu"),
    include_str!("kernels/sparse_int4.cu"),
    POINTWISE,
    include_str!("kernels/place.cu"),
    include_str!("kernels/attention.cu"),
    include_str!("kernels/score.cu"),
    include_str!("kernels/candidates.cu"),
];
/// Those of a calibration, with the norms and gates of a step.
const CALIBRATION: &[&str] = &[POINTWISE, TILE, include_str!("kernels/calibration.cu")];
/// Those of the refinement of masks.
const EXCHANGE: &[&str] = &[TILE, include_str!("kernels/exchange.cu")];

/// What launches of a kernel need to know of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) name: String,
    /// Threads of a group.
    pub(super) threads: u32,
    /// Whether it takes the data of a step and the index of a call, before its buffers.
    pub(super) has_call: bool,
    pub(super) buffers: usize,
}

/// The source of kernels: of a step, of a calibration or of a refinement.
pub(super) fn source(kinds: &[KernelKind]) -> String {
    let has = |is_one: fn(&KernelKind) -> bool| kinds.iter().any(is_one);
    let sources = if has(|kind| matches!(kind, KernelKind::Exchange(..))) {
        EXCHANGE
    } else if has(|kind| matches!(kind, KernelKind::Calibration(_))) {
        CALIBRATION
    } else {
        STEP
    };
    COMMON.to_owned() + &sources.concat()
}

/// The signature of a kernel, as its source has it.
pub(super) fn signature(kind: KernelKind) -> Signature {
    let (name, threads, buffers) = match kind {
        KernelKind::Embed => ("embed", 64, 3),
        // CUDA has a function `norm`.
        KernelKind::Norm => ("norm_rows", 256, 3),
        KernelKind::NormPicked => ("norm_picked", 256, 3),
        KernelKind::Place => ("place", 64, 5),
        KernelKind::Attention => ("attention", 256, 4),
        KernelKind::AttentionSpans => ("attention_spans", 256, 4),
        KernelKind::AttentionJoin => ("attention_join", 256, 2),
        KernelKind::Gate => ("gate", 256, 2),
        KernelKind::Score => ("score", 256, 2),
        KernelKind::Candidates => ("candidates", 256, 2),
        KernelKind::Sum => ("sum", 64, 2),
        KernelKind::Product(form, tile) => {
            (&*format!("product_{}_{}", form_name(form), tile), 256, 3 + form.buffers())
        }
        KernelKind::Calibration(kind) => match kind {
            CalibrationKind::Linear => ("block_linear", 256, 3),
            CalibrationKind::Rotate => ("rotate", 64, 3),
            CalibrationKind::Attention => ("block_attention", 64, 4),
            CalibrationKind::Residual => ("residual", 64, 2),
            CalibrationKind::Statistic => ("statistic", 256, 3),
            CalibrationKind::Check => ("check", 64, 2),
        },
        KernelKind::Exchange(kind, parts) => {
            let name = match kind {
                ExchangeKind::Product => "exchange_product",
                ExchangeKind::Error => "exchange_error",
                ExchangeKind::Whole => "exchange_whole",
                ExchangeKind::Groups => "exchange_groups",
            };
            (name, 256, 7 + parts)
        }
    };
    let has_call = !matches!(kind, KernelKind::Exchange(..));
    Signature { name: name.to_owned(), threads, has_call, buffers }
}

/// The macros of a model and of the forms that some kernels need, as options of the compiler.
pub(super) fn macros(config: Option<&ModelConfig>, kinds: &[KernelKind]) -> Vec<String> {
    let needs =
        |form: &Form| kinds.iter().any(|kind| matches!(kind, KernelKind::Product(known, _) if known == form));
    let forms = Form::ALL.into_iter().filter(needs);
    let forms = forms.map(|form| format!("-DFORM_{}=1", form_name(form).to_uppercase()));
    config.map(model_macros).unwrap_or_default().into_iter().chain(forms).collect()
}

fn model_macros(config: &ModelConfig) -> Vec<String> {
    let Constants { counts, numbers } = constants(config);
    let counts = counts.map(|(name, count)| format!("-D{name}={count}u"));
    // Rust prints the shortest number that reads back as the same f32.
    let numbers = numbers.map(|(name, number)| format!("-D{name}={number:?}f"));
    counts.into_iter().chain(numbers).collect()
}

fn form_name(form: Form) -> &'static str {
    match form {
        Form::Sparse => "sparse",
        Form::SparseInt4 => "sparse_int4",
        Form::Bf16 => "bf16",
        Form::Int8 => "int8",
        Form::Int4 => "int4",
    }
}

#[cfg(test)]
mod tests {
    use super::{macros, signature};
    use crate::device::cuda::TILES;
    use crate::device::kernel::KernelKind;
    use crate::layout::Form;
    use copal_native::engine::ModelConfig;

    fn config() -> ModelConfig {
        ModelConfig {
            hidden: 576,
            layers: 2,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            intermediate: 1536,
            vocab: 49152,
            context: 64,
            eps: 1e-5,
            rope: vec![1.0; 32],
        }
    }

    #[test]
    fn a_model_has_its_constants_as_macros() {
        let found = macros(Some(&config()), &[KernelKind::Norm]);
        let expected = "-DHIDDEN=576u -DHEADS=9u -DKV_HEADS=3u -DHEAD_DIM=64u -DHALF=32u -DSPAN=512u -DINTERMEDIATE=1536u \
                        -DVOCAB=49152u -DCOUNT=256u -DPART=192u -DEPS=1e-5f -DSCALE=0.125f";
        assert_eq!(found.join(" "), expected);
        let small = macros(Some(&ModelConfig { vocab: 100, eps: 0.0, head_dim: 6, ..config() }), &[]);
        for option in ["-DCOUNT=100u", "-DPART=1u", "-DEPS=0.0f", "-DSCALE=0.40824828f"] {
            assert!(small.iter().any(|known| known == option), "{option} in {small:?}");
        }
    }

    #[test]
    fn only_the_forms_of_the_kernels_are_compiled() {
        let forms = |kinds: &[KernelKind]| {
            let found = macros(None, kinds);
            found.into_iter().filter(|option| option.starts_with("-DFORM")).collect::<Vec<_>>()
        };
        assert!(forms(&[KernelKind::Norm, KernelKind::Sum]).is_empty());
        let kinds = [KernelKind::Product(Form::Int8, TILES[0]), KernelKind::Product(Form::Sparse, TILES[1])];
        assert_eq!(forms(&kinds), ["-DFORM_SPARSE=1", "-DFORM_INT8=1"]);
    }

    #[test]
    fn products_are_named_by_form_and_tokens_and_take_the_arrays_of_the_form() {
        let of = |form, tile: usize| {
            let found = signature(KernelKind::Product(form, TILES[tile]));
            (found.name, found.threads, found.buffers)
        };
        assert_eq!(of(Form::Sparse, 0), ("product_sparse_8".to_owned(), 256, 6));
        assert_eq!(of(Form::SparseInt4, 0), ("product_sparse_int4_8".to_owned(), 256, 7));
        assert_eq!(of(Form::Bf16, 1), ("product_bf16_16".to_owned(), 256, 4));
        assert_eq!(of(Form::Int8, 2), ("product_int8_32".to_owned(), 256, 5));
        assert_eq!(of(Form::Int4, 3), ("product_int4_64".to_owned(), 256, 5));
    }
}
