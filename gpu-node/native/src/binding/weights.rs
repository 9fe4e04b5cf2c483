//! Weight sets: loaded and freed on threads of libuv.

use super::MAX_THREADS;
use super::background::Job;
use super::errors::{Code, Error, Failure, Result, error, invalid};
use super::fields::{Field, read};
use super::form_sample::form_named;
use crate::engine::{
    LinearPlace, LoadError, MaskedPlace, SetForm, SharedPlaces, WeightLibrary, WeightPlaces, WeightSet,
};
use crate::storage::{Counted, Form, KeptRule, MAX_GROUP};
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// The linears of a block in the order of [`LINEARS`](crate::engine::LINEARS), by the same names.
const LINEAR_FIELDS: [&CStr; 7] = [
    c"self_attn.q_proj",
    c"self_attn.k_proj",
    c"self_attn.v_proj",
    c"self_attn.o_proj",
    c"mlp.gate_proj",
    c"mlp.up_proj",
    c"mlp.down_proj",
];

/// Weights that an engine runs.
#[napi(js_name = "EngineWeights")]
pub struct JsWeights {
    pub(super) weights: Option<Arc<WeightSet>>,
    bytes: usize,
    memory_bytes: usize,
}

#[napi]
impl JsWeights {
    /// Bytes that the multiplications of one token read.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.bytes as f64
    }

    /// Bytes in memory, with what other sets share.
    #[napi(getter)]
    pub fn memory_bytes(&self) -> f64 {
        self.memory_bytes as f64
    }
}

impl JsWeights {
    /// The weights, unless they were released.
    pub(super) fn loaded(&self) -> Result<Arc<WeightSet>> {
        self.weights.clone().ok_or_else(|| error(Code::InvalidState, "these weights were released"))
    }
}

/// The places of a model of `layers` blocks, the form of its pruned linears, and the number of threads that pack it.
pub(super) fn read_places(layers: usize, source: &Unknown<'_>) -> Result<(WeightPlaces, SetForm, usize)> {
    let [master, mask, embedding, head, final_norm, blocks, form, dense_from, threads] = read(
        source,
        [
            c"masterPath",
            c"maskPath",
            c"embedding",
            c"head",
            c"finalNorm",
            c"blocks",
            c"form",
            c"denseFrom",
            c"threads",
        ],
    )?;
    let form = match form.optional()?.map(|form| form.text()).transpose()?.as_deref() {
        None => SetForm::One(Form::Packed),
        Some("both") => SetForm::Both { dense_from: dense_from.whole()? },
        Some(name) => SetForm::One(form_named(name)?),
    };
    let blocks = blocks.elements()?;
    if blocks.len() != layers {
        return Err(invalid(format!("there are {} blocks, but the model has {layers}", blocks.len())));
    }
    let (mut norms, mut linears) =
        (Vec::with_capacity(layers), Vec::with_capacity(layers * LINEAR_FIELDS.len()));
    for block in blocks {
        let [attention_norm, mlp_norm, places] = block.read([c"attentionNorm", c"mlpNorm", c"linears"])?;
        norms.push((attention_norm.whole()?, mlp_norm.whole()?));
        for place in places.read(LINEAR_FIELDS)? {
            linears.push(read_linear(place)?);
        }
    }
    let places = WeightPlaces {
        master: PathBuf::from(master.text()?),
        mask: mask.optional()?.map(|mask| mask.text()).transpose()?.map(PathBuf::from),
        shared: SharedPlaces {
            embedding: embedding.whole()?,
            head: head.whole()?,
            final_norm: final_norm.whole()?,
            norms,
        },
        linears,
    };
    Ok((places, form, threads.count(MAX_THREADS)?))
}

fn read_linear(place: Field) -> Result<LinearPlace> {
    let [dense, mask] = place.read([c"dense", c"mask"])?;
    let masked = mask.optional()?.map(read_masked).transpose()?;
    Ok(LinearPlace { dense: dense.whole()?, masked })
}

fn read_masked(mask: Field) -> Result<MaskedPlace> {
    let [bits, rule, values] = mask.read([c"bits", c"rule", c"values"])?;
    let [per, columns, kept] = rule.read([c"per", c"columns", c"kept"])?;
    let of = match per.text()?.as_str() {
        "matrix" => Counted::Matrix,
        "row" => Counted::Row,
        "group" => Counted::Columns(columns.count(MAX_GROUP)?),
        _ => return Err(per.wrong("'matrix', 'row' or 'group'")),
    };
    let values = match values.optional()? {
        Some(values) => {
            let [begin, count] = values.read([c"begin", c"count"])?;
            Some((begin.whole()?, count.whole()?))
        }
        None => None,
    };
    Ok(MaskedPlace { bits: bits.whole()?, rule: KeptRule { of, kept: kept.whole()? }, values })
}

/// Loads a weight set.
pub struct LoadJob {
    pub(super) library: Arc<WeightLibrary>,
    pub(super) places: WeightPlaces,
    pub(super) form: SetForm,
    pub(super) threads: usize,
}

impl Job for LoadJob {
    type Output = WeightSet;
    type JsValue = JsWeights;

    fn run(&mut self) -> std::result::Result<WeightSet, Failure> {
        Ok(self.library.load(&self.places, self.form, self.threads).map_err(load_error)?)
    }

    fn into_js(weights: WeightSet) -> JsWeights {
        let (bytes, memory_bytes) = (weights.stream_bytes(), weights.memory_bytes());
        JsWeights { bytes, memory_bytes, weights: Some(Arc::new(weights)) }
    }
}

fn load_error(reason: LoadError) -> Error {
    let code = match reason {
        LoadError::File(..) | LoadError::Short(..) => Code::UnreadableFile,
        LoadError::Mask(_) => Code::InvalidMask,
        LoadError::Pack(..) => Code::InvalidWeights,
        LoadError::Places(_) => Code::InvalidArg,
    };
    error(code, reason)
}

/// Frees a weight set, once the engine's thread no longer uses it.
pub struct ReleaseJob {
    pub(super) weights: Option<(Arc<WeightSet>, Option<Receiver<()>>)>,
}

impl Job for ReleaseJob {
    type Output = ();
    type JsValue = ();

    fn run(&mut self) -> std::result::Result<(), Failure> {
        if let Some((weights, forgotten)) = self.weights.take() {
            // An error means that the engine's thread has ended; then it no longer uses the weights either.
            let _ = forgotten.map(|forgotten| forgotten.recv());
            drop(weights);
            return_memory();
        }
        Ok(())
    }

    fn into_js((): ()) {}
}

/// Gives freed memory back to the system. glibc would keep it, in addition to the memory of the weight set that is loaded
/// next.
pub(super) fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: glibc allows calling it at any time.
        unsafe { malloc_trim(0) };
    }
}
