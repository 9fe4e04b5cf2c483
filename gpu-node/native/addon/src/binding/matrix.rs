use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Failure, Result, guarded, invalid};
use copal_native::engine_binding::fields::read;
use copal_native::storage::{Format, Matrix, Precision, pack};
use napi::bindgen_prelude::{AsyncTask, Unknown};
use napi_derive::napi;
use std::sync::Arc;

/// The largest number of elements of a matrix, which fit a typed array of every version of Node.
const MAX_ELEMENTS: usize = 1 << 32;

/// A packed matrix. Immutable.
#[napi(js_name = "Matrix")]
pub struct JsMatrix {
    pub(super) matrix: Arc<Matrix>,
}

#[napi]
impl JsMatrix {
    /// Rows of the weight.
    #[napi(getter)]
    pub fn rows(&self) -> f64 {
        self.matrix.rows() as f64
    }

    /// Columns of the weight.
    #[napi(getter)]
    pub fn cols(&self) -> f64 {
        self.matrix.cols() as f64
    }

    /// The number of weights that the mask keeps.
    #[napi(getter)]
    pub fn kept(&self) -> f64 {
        self.matrix.kept() as f64
    }

    /// Bytes that a multiplication reads.
    #[napi(getter)]
    pub fn bytes(&self) -> f64 {
        self.matrix.stream_bytes() as f64
    }
}

/// Packs a weight.
pub struct PackJob {
    weights: Vec<f32>,
    rows: usize,
    cols: usize,
    mask: Option<Vec<u8>>,
    format: Format,
}

impl Job for PackJob {
    type Output = Matrix;
    type JsValue = JsMatrix;

    fn run(&mut self) -> std::result::Result<Matrix, Failure> {
        let matrix = pack(&self.weights, (self.rows, self.cols), self.mask.as_deref(), self.format);
        Ok(matrix.map_err(invalid)?)
    }

    fn into_js(matrix: Matrix) -> JsMatrix {
        JsMatrix { matrix: Arc::new(matrix) }
    }
}

/// Packs `[rows, cols]` f32 row-major on a thread of libuv: all weights, or those that the mask keeps.
#[napi(js_name = "pack")]
pub fn pack_matrix(options: Unknown<'_>) -> Result<AsyncTask<Background<PackJob>>> {
    guarded(|| {
        let [weights, rows, cols, mask, precision, group] =
            read(&options, [c"weights", c"rows", c"cols", c"mask", c"precision", c"group"])?;
        let precision = Precision::named(&precision.text()?).map_err(invalid)?;
        let format = Format::new(precision, group.count(64)?).map_err(invalid)?;
        let mask = mask.optional()?.map(|mask| mask.u8_array()).transpose()?;
        Ok(AsyncTask::new(Background(PackJob {
            rows: rows.count(MAX_ELEMENTS)?,
            cols: cols.count(MAX_ELEMENTS)?,
            format,
            // Copied: the caller may change or transfer the arrays before the job has read them.
            weights: weights.f32_array()?.to_vec(),
            mask: mask.map(|mask| mask.to_vec()),
        })))
    })
}
