//! Measuring the forms of weights, on threads of libuv.

use super::kernel_of;
use copal_native::cpu::Implementation;
use copal_native::engine_binding::MAX_THREADS;
use copal_native::engine_binding::background::{Background, Job};
use copal_native::engine_binding::errors::{Code, Error, Failure, Result, error, guarded, invalid};
use copal_native::engine_binding::fields::read;
use copal_native::form_sample::{FormSample, KeptWeights, SampleError, SampleOptions};
use copal_native::kernels::{MAX_ACTIVATIONS, MultiplyError};
use copal_native::storage::{Form, Format, MAX_GROUP, Precision};
use napi::bindgen_prelude::{AsyncTask, Unknown};
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError};

/// The largest number of rows or columns of a linear.
const MAX_SIZE: usize = (1 << 24) - 1;

/// A sample of a model's linears in both forms.
#[napi(js_name = "FormSample")]
pub struct JsFormSample {
    /// `None` once it was freed.
    sample: Option<Arc<Mutex<FormSample>>>,
}

#[napi]
impl JsFormSample {
    /// Bytes of the sample in a form.
    #[napi]
    pub fn bytes(&self, form: String) -> Result<f64> {
        let sample = self.sample()?;
        let sample = sample.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sample.bytes(form_named(&form)?) as f64)
    }

    /// Measures one multiplication by the sample in a form.
    #[napi]
    pub fn time(&self, form: String, tokens: f64) -> Result<AsyncTask<Background<TimeJob>>> {
        let tokens = copal_native::engine_binding::fields::count("tokens", tokens, MAX_ACTIVATIONS)?;
        Ok(AsyncTask::new(Background(TimeJob { sample: self.sample()?, form: form_named(&form)?, tokens })))
    }

    /// Frees the memory and the threads once no measurement runs.
    #[napi]
    pub fn free(&mut self) {
        self.sample = None;
    }

    fn sample(&self) -> Result<Arc<Mutex<FormSample>>> {
        self.sample.clone().ok_or_else(|| error(Code::InvalidState, "this sample was freed"))
    }
}

/// Makes a sample on a thread of libuv.
#[napi]
pub fn create_form_sample(options: Unknown<'_>) -> Result<AsyncTask<Background<SampleJob>>> {
    guarded(|| {
        let [kernel, threads, precision, layers, shapes, share, group, max_tokens, max_bytes] = read(
            &options,
            [
                c"kernel",
                c"threads",
                c"precision",
                c"layers",
                c"shapes",
                c"keptShare",
                c"group",
                c"maxTokens",
                c"maxBytes",
            ],
        )?;
        let mut linears = Vec::new();
        for shape in shapes.elements()? {
            let [rows, cols] = shape.read([c"rows", c"cols"])?;
            linears.push((rows.count(MAX_SIZE)?, cols.count(MAX_SIZE)?));
        }
        if linears.is_empty() {
            return Err(invalid("shapes must have at least one linear"));
        }
        let kept = match group.optional()? {
            None => KeptWeights::Share(share.number()?),
            Some(group) => {
                let [columns, kept] = group.read([c"columns", c"kept"])?;
                KeptWeights::Grouped { columns: columns.count(MAX_GROUP)?, kept: kept.whole()? }
            }
        };
        let options = SampleOptions {
            shapes: linears,
            layers: layers.count(MAX_SIZE)?,
            format: Precision::named(&precision.text()?).map(Format::usual).map_err(invalid)?,
            kept,
            threads: threads.count(MAX_THREADS)?,
            max_tokens: max_tokens.count(MAX_ACTIVATIONS)?,
            max_bytes: max_bytes.whole()?,
        };
        Ok(AsyncTask::new(Background(SampleJob { implementation: kernel_of(kernel)?, options })))
    })
}

/// Makes a sample.
pub struct SampleJob {
    implementation: &'static Implementation,
    options: SampleOptions,
}

impl Job for SampleJob {
    type Output = FormSample;
    type JsValue = JsFormSample;

    fn run(&mut self) -> std::result::Result<FormSample, Failure> {
        Ok(FormSample::new(self.implementation, &self.options).map_err(sample_error)?)
    }

    fn into_js(sample: FormSample) -> JsFormSample {
        JsFormSample { sample: Some(Arc::new(Mutex::new(sample))) }
    }
}

/// Measures a multiplication by a sample.
pub struct TimeJob {
    sample: Arc<Mutex<FormSample>>,
    form: Form,
    tokens: usize,
}

impl Job for TimeJob {
    type Output = f64;
    type JsValue = f64;

    fn run(&mut self) -> std::result::Result<f64, Failure> {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sample.time(self.form, self.tokens).map_err(multiply_error)?)
    }

    fn into_js(seconds: f64) -> f64 {
        seconds
    }
}

/// Returns the form that a name means.
pub(super) fn form_named(name: &str) -> Result<Form> {
    match name {
        "packed" => Ok(Form::Packed),
        "dense" => Ok(Form::Dense),
        _ => Err(invalid(format!("unknown form '{name}'; there are: packed, dense"))),
    }
}

fn sample_error(reason: SampleError) -> Error {
    match reason {
        SampleError::Threads(..) => error(Code::ThreadsUnavailable, reason),
        SampleError::Memory(_) => error(Code::OutOfMemory, reason),
        SampleError::Multiply(error) => multiply_error(error),
        SampleError::Pack(_) => invalid(reason),
    }
}

fn multiply_error(reason: MultiplyError) -> Error {
    match reason {
        MultiplyError::Shape(_) => invalid(reason),
        MultiplyError::Panicked(cause) => copal_native::engine_binding::errors::panicked(cause),
    }
}
