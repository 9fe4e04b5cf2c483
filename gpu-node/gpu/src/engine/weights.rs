//! Weight sets on a device.

use super::buffers::Activations;
use crate::device::{Bound, Buffer, BufferUse, Gpu};
use crate::fault::DeviceFault;
use crate::layout::Form;
use crate::matrix::{Linear, Matrix, MatrixError, Meter, Ports};
use crate::programs::Kernels;
use copal_native::engine::{
    LINEARS, LinearPlace, LoadError, MaskedPlace, ModelConfig, SharedPlaces, Source, WeightPlaces,
    check_bits, check_count, linear_name, values_error,
};
use copal_native::storage::{KeptRows, Precision, RowSource};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The forms of a model's matrices.
#[derive(Clone, Copy, Debug)]
pub struct Forms {
    /// The form of linears with a mask.
    pub masked: Form,
    /// The form of linears without a mask.
    pub dense: Form,
    /// The form of the head.
    pub head: Form,
}

impl Forms {
    /// The forms in which matrices of these precisions are stored.
    pub fn of(linears: Precision, head: Precision) -> Forms {
        let dense = |precision| match precision {
            Precision::Bf16 => Form::Bf16,
            Precision::Int8 => Form::Int8,
            Precision::Int4 => Form::Int4,
        };
        let masked = match linears {
            Precision::Bf16 => Form::Sparse,
            Precision::Int8 => Form::Int8,
            Precision::Int4 => Form::SparseInt4,
        };
        Forms { masked, dense: dense(linears), head: dense(head) }
    }

    /// The forms, each once.
    pub(super) fn used(&self) -> Vec<Form> {
        let Forms { masked, dense, head } = *self;
        Form::ALL.into_iter().filter(|form| [masked, dense, head].contains(form)).collect()
    }
}

/// A model's weights on a device, bound to the buffers of one engine. Immutable.
pub struct WeightSet {
    id: u64,
    pub(super) shared: Arc<SharedWeights>,
    pub(super) linears: Vec<Arc<Linear>>,
}

/// The weights that no mask changes.
pub(super) struct SharedWeights {
    pub(super) embedding: Vec<Bound>,
    pub(super) head: Linear,
    /// For each layer the norms before attention and before the gated layer.
    pub(super) norms: Vec<[Bound; 2]>,
    /// The norm before the head, for all rows of a batch and for picked ones.
    pub(super) final_norm: Bound,
    pub(super) picked_norm: Bound,
    /// The embedding, which is the head too if they are tied and have the same form.
    table: Arc<Matrix>,
}

/// Loads the weight sets of one engine. Weight sets that exist at the same time share the weights that they have in
/// common.
pub struct WeightLibrary {
    pub(super) config: ModelConfig,
    pub(super) forms: Forms,
    pub(super) gpu: Arc<Gpu>,
    pub(super) kernels: Arc<Kernels>,
    pub(super) buffers: Arc<Activations>,
    pub(super) meter: Meter,
    pub(super) shared: Mutex<Weak<SharedWeights>>,
    /// Dense linears by their place in the master.
    pub(super) dense: Mutex<HashMap<usize, Weak<Linear>>>,
    pub(super) next_id: AtomicU64,
}

/// Why weights cannot be loaded.
#[derive(Debug)]
pub enum LoadFault {
    /// The files.
    Files(LoadError),
    /// The device.
    Device(DeviceFault),
}

impl WeightSet {
    /// A number that no other set of the library has.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Bytes that the multiplications of one token read.
    pub fn stream_bytes(&self) -> u64 {
        let linears = self.linears.iter().map(|linear| linear.matrix.bytes()).sum::<u64>();
        linears + self.shared.head.matrix.bytes()
    }

    /// Bytes of the device's memory, with those that it shares with other sets.
    pub fn memory_bytes(&self) -> u64 {
        let SharedWeights { head, table, .. } = &*self.shared;
        let is_tied = Arc::ptr_eq(table, &head.matrix);
        self.stream_bytes() + if is_tied { 0 } else { table.bytes() }
    }
}

impl WeightLibrary {
    /// Packs a weight set on `threads` threads of its own and uploads it in bounded pieces.
    pub fn load(&self, places: &WeightPlaces, threads: usize) -> Result<WeightSet, LoadFault> {
        self.gpu.check()?;
        places.check(self.config.layers)?;
        let master = Source::open(&places.master)?;
        let mask = places.mask.as_deref().map(Source::open).transpose()?;
        let shared = self.shared(&master, &places.shared)?;
        let linears = places.load_linears(threads, || {
            |index, place: &LinearPlace| self.linear(&master, mask.as_ref(), index, place)
        })?;
        Ok(WeightSet { id: self.next_id.fetch_add(1, Ordering::Relaxed), shared, linears })
    }

    fn shared(&self, master: &Source<'_>, places: &SharedPlaces) -> Result<Arc<SharedWeights>, LoadFault> {
        // Locked while the head is loaded: a load at the same time waits and shares it.
        let mut known = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.upgrade() {
            return Ok(shared);
        }
        let (gpu, kernels, buffers) = (&*self.gpu, &*self.kernels, &*self.buffers);
        let ModelConfig { vocab, hidden, .. } = self.config;
        let shape = (vocab, hidden);
        let table_name = "model.embed_tokens.weight";
        let table = Arc::new(self.dense_matrix(master, table_name, places.embedding, shape, Form::Bf16)?);
        let head = match (places.head == places.embedding, self.forms.head) {
            (true, Form::Bf16) => Arc::clone(&table),
            (true, form) => Arc::new(self.dense_matrix(master, table_name, places.head, shape, form)?),
            (false, form) => {
                Arc::new(self.dense_matrix(master, "lm_head.weight", places.head, shape, form)?)
            }
        };
        let ports = Ports { inputs: &buffers.picked, outputs: &buffers.logits, add: false };
        let norm = |name: &str, place| -> Result<_, LoadFault> {
            let gamma = master.floats(name, place, hidden)?;
            let words: Vec<u32> = gamma.iter().map(|value| value.to_bits()).collect();
            Ok(gpu.stored(&words, BufferUse::Stored)?)
        };
        let bind = |gamma: &Buffer| gpu.bind(&kernels.norm, &[&buffers.stream, gamma, &buffers.normed]);
        let norms = places.norms.iter().enumerate().map(|(layer, &(attention, mlp))| {
            let attention = norm(&format!("model.layers.{layer}.input_layernorm.weight"), attention)?;
            let mlp = norm(&format!("model.layers.{layer}.post_attention_layernorm.weight"), mlp)?;
            Ok([bind(&attention)?, bind(&mlp)?])
        });
        let gamma = norm("model.norm.weight", places.final_norm)?;
        let picked = [&buffers.stream, &gamma, &buffers.picked];
        let shared = Arc::new(SharedWeights {
            embedding: table.bind_table(gpu, kernels, &buffers.stream)?,
            head: Linear::new((gpu, kernels), head, ports)?,
            norms: norms.collect::<Result<_, LoadFault>>()?,
            final_norm: bind(&gamma)?,
            picked_norm: gpu.bind(&kernels.norm_picked, &picked)?,
            table,
        });
        *known = Arc::downgrade(&shared);
        Ok(shared)
    }

    fn linear(
        &self,
        master: &Source<'_>,
        mask: Option<&Source<'_>>,
        index: usize,
        place: &LinearPlace,
    ) -> Result<Arc<Linear>, LoadFault> {
        let name = linear_name(index);
        let shape = self.config.linear_shapes()[index % LINEARS.len()];
        if let Some(masked) = &place.masked {
            let no_file = || LoadError::Places(format!("{name} has bits, but there is no mask file"));
            let mask = mask.ok_or_else(no_file)?;
            let matrix = self.masked_matrix((master, place.dense), (mask, masked), &name, shape)?;
            return self.bind(index, matrix);
        }
        let known = || self.dense.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(linear) = known().get(&place.dense).and_then(Weak::upgrade) {
            return Ok(linear);
        }
        let matrix = self.dense_matrix(master, &name, place.dense, shape, self.forms.dense)?;
        let linear = self.bind(index, matrix)?;
        // Two sets that load at the same time may both have loaded it: the first one is kept.
        let mut known = known();
        if let Some(linear) = known.get(&place.dense).and_then(Weak::upgrade) {
            return Ok(linear);
        }
        known.insert(place.dense, Arc::downgrade(&linear));
        Ok(linear)
    }

    /// Binds a linear to its inputs and outputs among the activations.
    fn bind(&self, index: usize, matrix: Matrix) -> Result<Arc<Linear>, LoadFault> {
        let buffers = &*self.buffers;
        let (inputs, outputs, add) = match index % 7 {
            0 => (&buffers.normed, &buffers.queries, false),
            1 => (&buffers.normed, &buffers.keys, false),
            2 => (&buffers.normed, &buffers.values, false),
            3 => (&buffers.attended, &buffers.stream, true),
            4 => (&buffers.normed, &buffers.gate, false),
            5 => (&buffers.normed, &buffers.up, false),
            _ => (&buffers.gate, &buffers.stream, true),
        };
        let linear =
            Linear::new((&self.gpu, &self.kernels), Arc::new(matrix), Ports { inputs, outputs, add })?;
        Ok(Arc::new(linear))
    }

    fn dense_matrix(
        &self,
        master: &Source<'_>,
        name: &str,
        place: usize,
        (rows, cols): (usize, usize),
        form: Form,
    ) -> Result<Matrix, LoadFault> {
        let dense = master.floats(name, place, rows * cols)?;
        let matrix = Matrix::load((&self.gpu, &self.meter), &mut &*dense, (rows, cols), None, form);
        matrix.map_err(|error| match error {
            MatrixError::Pack(error) => LoadFault::Files(LoadError::Pack(name.to_owned(), error)),
            MatrixError::Device(fault) => LoadFault::Device(fault),
        })
    }

    fn masked_matrix(
        &self,
        (master, dense): (&Source<'_>, usize),
        (mask, place): (&Source<'_>, &MaskedPlace),
        name: &str,
        shape: (usize, usize),
    ) -> Result<Matrix, LoadFault> {
        let (rows, cols) = shape;
        let bytes = mask.bytes(name, place.bits, rows * cols.div_ceil(8))?;
        let bits = check_bits(name, bytes, &place.rule, shape)?;
        let load = |weights: &mut dyn RowSource| {
            Matrix::load((&self.gpu, &self.meter), weights, shape, Some(bytes), self.forms.masked)
        };
        let Some((values, count)) = place.values else {
            let dense = master.floats(name, dense, rows * cols)?;
            return load(&mut &*dense).map_err(|error| match error {
                MatrixError::Pack(error) => LoadFault::Files(LoadError::Pack(name.to_owned(), error)),
                MatrixError::Device(fault) => LoadFault::Device(fault),
            });
        };
        check_count(name, count, &place.rule, shape)?;
        let values = mask.bytes(name, values, 2 * count)?;
        load(&mut KeptRows::new(bits, values)).map_err(|error| match error {
            MatrixError::Pack(error) => LoadFault::Files(values_error(name, bits, error)),
            MatrixError::Device(fault) => LoadFault::Device(fault),
        })
    }
}

impl From<LoadError> for LoadFault {
    fn from(error: LoadError) -> LoadFault {
        LoadFault::Files(error)
    }
}

impl From<DeviceFault> for LoadFault {
    fn from(fault: DeviceFault) -> LoadFault {
        LoadFault::Device(fault)
    }
}

impl fmt::Display for LoadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadFault::Files(error) => error.fmt(f),
            LoadFault::Device(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LoadFault {}
