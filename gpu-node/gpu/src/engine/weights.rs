//! Weight sets on a device.

use super::buffers::Activations;
use super::mapped::MappedFile;
use super::masked::{check_bits, check_count};
use super::{LINEARS, LinearPlace, LoadError, MaskedPlace, ModelConfig, SharedPlaces, WeightPlaces};
use crate::device::Gpu;
use crate::fault::DeviceFault;
use crate::layout::Form;
use crate::matrix::{Linear, Matrix, MatrixError, Meter, Ports, stored};
use crate::programs::Kernels;
use copal_native::storage::{KeptRows, PackError, RowSource};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use wgpu::BindGroup;

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

/// A model's weights on a device, bound to the buffers of one engine. Immutable.
pub struct WeightSet {
    id: u64,
    pub(super) shared: Arc<SharedWeights>,
    pub(super) linears: Vec<Arc<Linear>>,
}

/// The weights that no mask changes.
pub(super) struct SharedWeights {
    pub(super) embedding: Vec<BindGroup>,
    pub(super) head: Linear,
    /// For each layer the norms before attention and before the gated layer.
    pub(super) norms: Vec<[BindGroup; 2]>,
    /// The norm before the head, for all rows of a batch and for picked ones.
    pub(super) final_norm: BindGroup,
    pub(super) picked_norm: BindGroup,
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
        let layers = self.config.layers;
        if places.linears.len() != layers * LINEARS.len() || places.shared.norms.len() != layers {
            let (linears, norms) = (places.linears.len(), places.shared.norms.len());
            return Err(LoadFault::Files(LoadError::Places(format!(
                "{linears} linears and {norms} pairs of norms do not make up a model of {layers} layers"
            ))));
        }
        let master = Source::open(&places.master)?;
        let mask = places.mask.as_deref().map(Source::open).transpose()?;
        let shared = self.shared(&master, &places.shared)?;
        let next = AtomicUsize::new(0);
        let work = || {
            let mut loaded = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = places.linears.get(index) else {
                    return loaded;
                };
                let linear = self.linear(&master, mask.as_ref(), index, place);
                // Then the other threads find nothing left to do.
                if linear.is_err() {
                    next.store(places.linears.len(), Ordering::Relaxed);
                }
                loaded.push((index, linear));
            }
        };
        let mut loaded = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().flat_map(join).collect::<Vec<_>>()
        });
        loaded.sort_unstable_by_key(|(index, _)| *index);
        let linears = loaded.into_iter().map(|(_, linear)| linear).collect::<Result<_, _>>()?;
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
            Ok(stored(gpu, &gamma.iter().map(|value| value.to_bits()).collect::<Vec<_>>())?)
        };
        let bind = |gamma: &wgpu::Buffer| {
            let buffers = [&buffers.stream, gamma, &buffers.normed];
            gpu.run("bindings", || kernels.norm.bind(gpu, &buffers))
        };
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
            picked_norm: gpu.run("bindings", || kernels.norm_picked.bind(gpu, &picked))?,
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
        let name = format!("model.layers.{}.{}.weight", index / 7, LINEARS[index % 7]);
        let shape = linear_shapes(&self.config)[index % 7];
        if let Some(masked) = &place.masked {
            let no_file = || LoadError::Places(format!("{name} has bits, but there is no mask file"));
            let mask = mask.ok_or_else(no_file).map_err(LoadFault::Files)?;
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
        let in_mask = |message| LoadFault::Files(LoadError::Mask(message));
        let bits = check_bits(name, bytes, &place.rule, shape).map_err(in_mask)?;
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
        check_count(name, count, &place.rule, shape).map_err(in_mask)?;
        let values = mask.bytes(name, values, 2 * count)?;
        // The values belong to the mask, so the error does too.
        load(&mut KeptRows::new(bits, values)).map_err(|error| match error {
            MatrixError::Pack(error) => in_mask(value_error(name, bytes, cols, &error)),
            MatrixError::Device(fault) => LoadFault::Device(fault),
        })
    }
}

/// The message for a value of a mask that cannot be packed.
fn value_error(name: &str, bits: &[u8], cols: usize, error: &PackError) -> String {
    match error {
        PackError::Weight { row, col, value, .. } if !value.is_finite() => {
            let stride = cols.div_ceil(8);
            let before: u32 = bits[..row * stride].iter().map(|byte| byte.count_ones()).sum();
            let keeps = |col: &usize| bits[row * stride + col / 8] >> (col % 8) & 1 == 1;
            let index = before as usize + (0..*col).filter(keeps).count();
            format!("value {index} of tensor '{name}' is not finite")
        }
        error => format!("tensor '{name}': {error}"),
    }
}

/// `[rows, cols]` of the linears of a block, in the order of [`LINEARS`].
fn linear_shapes(config: &ModelConfig) -> [(usize, usize); 7] {
    let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *config;
    let (query, key) = (heads * head_dim, kv_heads * head_dim);
    [
        (query, hidden),
        (key, hidden),
        (key, hidden),
        (hidden, query),
        (intermediate, hidden),
        (intermediate, hidden),
        (hidden, intermediate),
    ]
}

struct Source<'a> {
    path: &'a Path,
    file: MappedFile,
}

impl Source<'_> {
    fn open(path: &Path) -> Result<Source<'_>, LoadFault> {
        match MappedFile::open(path) {
            Ok(file) => Ok(Source { path, file }),
            Err(error) => Err(LoadFault::Files(LoadError::File(path.to_owned(), error))),
        }
    }

    fn floats(&self, name: &str, offset: usize, count: usize) -> Result<Cow<'_, [f32]>, LoadFault> {
        self.file.floats(offset, count).ok_or_else(|| self.short(name))
    }

    fn bytes(&self, name: &str, offset: usize, length: usize) -> Result<&[u8], LoadFault> {
        self.file.bytes(offset, length).ok_or_else(|| self.short(name))
    }

    fn short(&self, name: &str) -> LoadFault {
        LoadFault::Files(LoadError::Short(self.path.to_owned(), name.to_owned()))
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
