use super::{count, guarded, invalid};
use crate::storage::{Format, Matrix, Precision, pack};
use napi::bindgen_prelude::{AsyncTask, Env, Float32ArraySlice, Result, Task, Uint8ArraySlice};
use napi_derive::napi;
use std::sync::Arc;

/// Elements of a matrix: what fits a typed array of every Node.
const MOST_ELEMENTS: usize = 1 << 32;

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

    /// Weights that survive.
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

/// Packs on a thread of libuv.
pub struct PackTask {
    dense: Vec<f32>,
    rows: usize,
    cols: usize,
    mask: Option<Vec<u8>>,
    format: Format,
}

impl Task for PackTask {
    type Output = Matrix;
    type JsValue = JsMatrix;

    fn compute(&mut self) -> Result<Matrix> {
        guarded(|| {
            let mask = self.mask.as_deref();
            pack(&self.dense, (self.rows, self.cols), mask, self.format).map_err(invalid)
        })
    }

    fn resolve(&mut self, _env: Env, matrix: Matrix) -> Result<JsMatrix> {
        Ok(JsMatrix { matrix: Arc::new(matrix) })
    }
}

/// Packs `[rows, cols]` f32 row-major, all of it or what the mask keeps.
#[napi(js_name = "pack")]
pub fn pack_matrix(
    dense: Float32ArraySlice<'_>,
    rows: f64,
    cols: f64,
    mask: Option<Uint8ArraySlice<'_>>,
    precision: String,
    group: f64,
) -> Result<AsyncTask<PackTask>> {
    guarded(|| {
        let precision = Precision::named(&precision).map_err(invalid)?;
        let format = Format::new(precision, count("group", group, 64)?).map_err(invalid)?;
        Ok(AsyncTask::new(PackTask {
            rows: count("rows", rows, MOST_ELEMENTS)?,
            cols: count("cols", cols, MOST_ELEMENTS)?,
            format,
            // Copied: the caller may change or give away the arrays before the task has read them.
            dense: dense.to_vec(),
            mask: mask.map(|mask| mask.to_vec()),
        }))
    })
}
