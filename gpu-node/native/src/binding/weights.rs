//! Weight sets: loaded and freed on threads of libuv.

use super::{MOST_BYTES, guarded, invalid};
use crate::engine::{LinearPlace, MaskedPlace, SharedPlaces, WeightLibrary, WeightPlaces, WeightSet};
use crate::storage::{Counted, KeptRule, MAX_GROUP};
use napi::bindgen_prelude::{Env, Result, Task};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Weights that an engine runs.
#[napi(js_name = "EngineWeights")]
pub struct JsWeights {
    pub(super) weights: Option<Arc<WeightSet>>,
    bytes: usize,
}

#[napi]
impl JsWeights {
    /// Bytes that one token's multiplications read.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.bytes as f64
    }
}

impl JsWeights {
    pub(super) fn loaded(&self) -> Result<Arc<WeightSet>> {
        self.weights.clone().ok_or_else(|| invalid("these weights were released"))
    }
}

/// The places of a model of `layers` blocks, as `addon.d.ts` orders them.
pub(super) fn read_places(
    layers: usize,
    master: String,
    shared: &[f64],
    linears: &[f64],
    mask: Option<String>,
    masked: &[f64],
) -> Result<WeightPlaces> {
    let shared = offsets("shared", shared, 3 + 2 * layers)?;
    let dense = offsets("linears", linears, 7 * layers)?;
    let masked = optional_offsets("masked", masked, 5 * dense.len())?;
    let (masked, _) = masked.as_chunks::<5>();
    let linears = dense.into_iter().zip(masked);
    let linears = linears.map(|(dense, place)| Ok(LinearPlace { dense, masked: masked_place(place)? }));
    let (norms, _) = shared[3..].as_chunks::<2>();
    Ok(WeightPlaces {
        master: PathBuf::from(master),
        mask: mask.map(PathBuf::from),
        shared: SharedPlaces {
            embedding: shared[0],
            head: shared[1],
            final_norm: shared[2],
            norms: norms.iter().map(|&[attention, mlp]| (attention, mlp)).collect(),
        },
        linears: linears.collect::<Result<_>>()?,
    })
}

/// One linear's numbers in the mask file, as `addon.d.ts` names them.
fn masked_place(&[bits, columns, kept, values, count]: &[Option<usize>; 5]) -> Result<Option<MaskedPlace>> {
    let Some(bits) = bits else {
        return Ok(None);
    };
    let of = match columns {
        None => Counted::Matrix,
        Some(0) => Counted::Row,
        Some(columns @ 1..=MAX_GROUP) => Counted::Columns(columns),
        Some(columns) => {
            return Err(invalid(format!("masked counts {columns} columns; at most {MAX_GROUP} go together")));
        }
    };
    let kept = kept.ok_or_else(|| invalid("masked has bits without how many are kept"))?;
    let values = match (values, count) {
        (None, _) => None,
        (Some(values), Some(count)) => Some((values, count)),
        (Some(_), None) => return Err(invalid("masked has values without how many there are")),
    };
    Ok(Some(MaskedPlace { bits, rule: KeptRule { of, kept }, values }))
}

/// Loads on a thread of libuv.
pub struct LoadTask {
    pub(super) library: Arc<WeightLibrary>,
    pub(super) places: WeightPlaces,
    pub(super) threads: usize,
}

impl Task for LoadTask {
    type Output = WeightSet;
    type JsValue = JsWeights;

    fn compute(&mut self) -> Result<WeightSet> {
        guarded(|| self.library.load(&self.places, self.threads).map_err(invalid))
    }

    fn resolve(&mut self, _env: Env, weights: WeightSet) -> Result<JsWeights> {
        Ok(JsWeights { bytes: weights.stream_bytes(), weights: Some(Arc::new(weights)) })
    }
}

/// Frees on a thread of libuv, once the engine's thread has no more to do with the weights.
pub struct ReleaseTask {
    pub(super) weights: Option<(Arc<WeightSet>, Receiver<()>)>,
}

impl Task for ReleaseTask {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        guarded(|| {
            if let Some((weights, forgotten)) = self.weights.take() {
                // An error would say that the thread has ended: then it has none either.
                let _ = forgotten.recv();
                drop(weights);
                return_memory();
            }
            Ok(())
        })
    }

    fn resolve(&mut self, _env: Env, (): ()) -> Result<()> {
        Ok(())
    }
}

/// `expected` places in a file.
fn offsets(name: &str, values: &[f64], expected: usize) -> Result<Vec<usize>> {
    let places = optional_offsets(name, values, expected)?;
    let places: Option<Vec<_>> = places.into_iter().collect();
    places.ok_or_else(|| invalid(format!("{name} has a negative place")))
}

/// `expected` places in a file; -1 is none.
fn optional_offsets(name: &str, values: &[f64], expected: usize) -> Result<Vec<Option<usize>>> {
    if values.len() != expected {
        return Err(invalid(format!("{name} has {} places, {expected} are expected", values.len())));
    }
    let place = |&value: &f64| match value {
        -1.0 => Ok(None),
        _ if value.fract() == 0.0 && value >= 0.0 && value <= MOST_BYTES as f64 => Ok(Some(value as usize)),
        _ => Err(invalid(format!("{name} has a place of {value}; a whole number or -1 is expected"))),
    };
    values.iter().map(place).collect()
}

/// Gives what was freed back to the system: glibc would keep it for the next weight set, beside
/// the one that is already there.
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: a function of glibc that may be called at any time.
        unsafe { malloc_trim(0) };
    }
}
