use super::ModelConfig;
use super::mapped::MappedFile;
use super::masked::{MaskedPlace, check_bits, check_count};
use super::pace::Pace;
use crate::storage::{Form, Format, KeptRows, Matrix, PackError, pack_rows, pack_rows_as};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

/// The linears of a block in forward order, as a mask file names them.
pub const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The place of a linear: offsets in bytes from the start of the files.
#[derive(Clone, Copy, Debug)]
pub struct LinearPlace {
    /// Its f32 weights in the master file.
    pub dense: usize,
    /// Its mask in the mask file; `None` for a dense linear.
    pub masked: Option<MaskedPlace>,
}

/// The places of all other tensors: offsets in bytes from the start of the master file.
#[derive(Clone, Debug)]
pub struct SharedPlaces {
    /// `[vocab, hidden]`.
    pub embedding: usize,
    /// `[vocab, hidden]`; the place of the embedding if the two are tied.
    pub head: usize,
    /// `[hidden]`, the norm before the head.
    pub final_norm: usize,
    /// `[hidden]` each: the norms before attention and before the gated layer, block after block.
    pub norms: Vec<(usize, usize)>,
}

/// The files and places that a weight set is made from.
#[derive(Clone, Debug)]
pub struct WeightPlaces {
    /// The dense f32 master.
    pub master: PathBuf,
    /// The mask file, required if a linear has a mask.
    pub mask: Option<PathBuf>,
    /// The tensors that all sets of a model share.
    pub shared: SharedPlaces,
    /// The seven linears of every block, block after block.
    pub linears: Vec<LinearPlace>,
}

/// A model's weights, ready to multiply. Immutable.
pub struct WeightSet {
    id: u64,
    pub(crate) shared: Arc<SharedWeights>,
    /// The linears of every block, block after block.
    linears: Vec<Arc<Matrix>>,
    /// With [`SetForm::Both`]: the same linears in the dense form.
    dense: Option<DenseForm>,
}

struct DenseForm {
    /// The smallest number of tokens that it multiplies.
    min_tokens: usize,
    linears: Vec<Arc<Matrix>>,
}

/// How a weight set stores its pruned linears. The form changes no bit of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetForm {
    /// In one form.
    One(Form),
    /// Packed for fewer than `dense_from` tokens at once, dense for more.
    Both {
        /// The smallest number of tokens that the dense form multiplies.
        dense_from: usize,
    },
}

/// The weights that no mask changes.
pub(crate) struct SharedWeights {
    master: Arc<MappedFile>,
    embedding: usize,
    hidden: usize,
    pub(crate) head: Matrix,
    pub(crate) final_norm: Vec<f32>,
    pub(crate) norms: Vec<(Vec<f32>, Vec<f32>)>,
}

/// Loads the weight sets of one model, the linears in one format and the head in another. Weight sets that exist at the
/// same time share the weights that they have in common.
pub struct WeightLibrary {
    config: ModelConfig,
    linears: Format,
    head: Format,
    pace: Arc<Pace>,
    shared: Mutex<Weak<SharedWeights>>,
    /// Dense linears by their place in the master.
    dense: Mutex<HashMap<usize, Weak<Matrix>>>,
    next_id: AtomicU64,
}

/// Why weights cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// A file cannot be opened.
    File(PathBuf, std::io::Error),
    /// A file ends inside of a tensor.
    Short(PathBuf, String),
    /// The mask does not fit: the tensor, and what is wrong with it.
    Mask(String),
    /// A tensor cannot be packed.
    Pack(String, PackError),
    /// The places do not fit the model, or there is no mask file.
    Places(String),
}

impl WeightSet {
    /// A number that no other set of the library has.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The linears in the form for `tokens` tokens at once.
    pub(crate) fn linears(&self, tokens: usize) -> &[Arc<Matrix>] {
        match &self.dense {
            Some(dense) if tokens >= dense.min_tokens => &dense.linears,
            _ => &self.linears,
        }
    }

    /// Bytes that the multiplications of one token read.
    pub fn stream_bytes(&self) -> usize {
        bytes_of(self.linears(1)) + self.shared.head.stream_bytes()
    }

    /// Bytes that the packed weights take in memory, with those that other sets share.
    pub fn memory_bytes(&self) -> usize {
        // A linear without a mask is the same matrix in both forms.
        let twice = self.dense.iter().flat_map(|dense| dense.linears.iter().zip(&self.linears));
        let twice = twice.filter(|(dense, packed)| !Arc::ptr_eq(dense, packed));
        bytes_of(&self.linears)
            + twice.map(|(dense, _)| dense.stream_bytes()).sum::<usize>()
            + self.shared.head.stream_bytes()
    }
}

fn bytes_of(linears: &[Arc<Matrix>]) -> usize {
    linears.iter().map(|matrix| matrix.stream_bytes()).sum()
}

impl SharedWeights {
    /// Copies the embedding of a token of the vocabulary.
    pub(crate) fn embed(&self, token: usize, out: &mut [f32]) {
        let offset = self.embedding + token * self.hidden * 4;
        let row = self.master.floats(offset, self.hidden).expect("checked when it was loaded");
        out.copy_from_slice(&row);
    }
}

impl WeightLibrary {
    /// An empty library for the engine that has this pace.
    pub fn new(config: ModelConfig, linears: Format, head: Format, pace: Arc<Pace>) -> WeightLibrary {
        WeightLibrary {
            config,
            linears,
            head,
            pace,
            shared: Mutex::new(Weak::new()),
            dense: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(1),
        }
    }

    /// Packs a weight set in a form, on `threads` threads of its own.
    pub fn load(&self, places: &WeightPlaces, form: SetForm, threads: usize) -> Result<WeightSet, LoadError> {
        let layers = self.config.layers;
        if places.linears.len() != layers * LINEARS.len() || places.shared.norms.len() != layers {
            let (linears, norms) = (places.linears.len(), places.shared.norms.len());
            return Err(LoadError::Places(format!(
                "{linears} linears and {norms} pairs of norms do not make up a model of {layers} layers"
            )));
        }
        let master = Source::open(&places.master)?;
        let mask = places.mask.as_deref().map(Source::open).transpose()?;
        let shared = self.shared(&master, &places.shared)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let pack = |form| self.linears(&master, mask.as_ref(), places, form, threads);
        Ok(match form {
            SetForm::One(form) => WeightSet { id, shared, linears: pack(form)?, dense: None },
            SetForm::Both { dense_from } => {
                let linears = pack(Form::Packed)?;
                let dense = DenseForm { min_tokens: dense_from, linears: pack(Form::Dense)? };
                WeightSet { id, shared, linears, dense: Some(dense) }
            }
        })
    }

    fn linears(
        &self,
        master: &Source<'_>,
        mask: Option<&Source<'_>>,
        places: &WeightPlaces,
        form: Form,
        threads: usize,
    ) -> Result<Vec<Arc<Matrix>>, LoadError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let packer = self.pace.packer(threads);
            let mut packed = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = places.linears.get(index) else {
                    return packed;
                };
                let name = format!("model.layers.{}.{}.weight", index / 7, LINEARS[index % 7]);
                let shape = self.config.linear_shapes()[index % 7];
                let linear = self.linear(form, (master, mask), name, place, shape, &|| packer.pause());
                // Then the other threads find nothing left to do.
                if linear.is_err() {
                    next.store(places.linears.len(), Ordering::Relaxed);
                }
                packed.push((index, linear));
            }
        };
        let mut packed = thread::scope(|scope| {
            let packers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let join = |packer: thread::ScopedJoinHandle<'_, _>| {
                packer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            packers.into_iter().flat_map(join).collect::<Vec<_>>()
        });
        packed.sort_unstable_by_key(|(index, _)| *index);
        packed.into_iter().map(|(_, linear)| linear).collect()
    }

    fn linear(
        &self,
        form: Form,
        (master, mask): (&Source<'_>, Option<&Source<'_>>),
        name: String,
        place: &LinearPlace,
        shape: (usize, usize),
        pause: &dyn Fn(),
    ) -> Result<Arc<Matrix>, LoadError> {
        let Some(masked) = &place.masked else {
            return self.dense_linear(master, name, place.dense, shape, pause);
        };
        let mask =
            mask.ok_or_else(|| LoadError::Places(format!("{name} has bits, but there is no mask file")))?;
        self.masked_linear(form, (master, place.dense), (mask, masked), name, shape, pause).map(Arc::new)
    }

    fn shared(&self, master: &Source<'_>, places: &SharedPlaces) -> Result<Arc<SharedWeights>, LoadError> {
        // Locked while the head is packed: a load at the same time waits and shares it.
        let mut known = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.upgrade() {
            return Ok(shared);
        }
        let ModelConfig { vocab, hidden, .. } = self.config;
        let norm = |name: &str, place| Ok(master.floats(name, place, hidden)?.into_owned());
        master.floats("model.embed_tokens.weight", places.embedding, vocab * hidden)?;
        let name =
            if places.head == places.embedding { "model.embed_tokens.weight" } else { "lm_head.weight" };
        let head = master.floats(name, places.head, vocab * hidden)?;
        let packer = self.pace.packer(1);
        let head = pack_rows(&mut &*head, (vocab, hidden), None, self.head, &|| packer.pause());
        let norms = places.norms.iter().enumerate().map(|(layer, &(attention, mlp))| {
            Ok((
                norm(&format!("model.layers.{layer}.input_layernorm.weight"), attention)?,
                norm(&format!("model.layers.{layer}.post_attention_layernorm.weight"), mlp)?,
            ))
        });
        let shared = Arc::new(SharedWeights {
            // The mapping lives as long as the weights.
            master: Arc::clone(&master.file),
            embedding: places.embedding,
            hidden,
            head: head.map_err(|error| LoadError::Pack(name.to_owned(), error))?,
            final_norm: norm("model.norm.weight", places.final_norm)?,
            norms: norms.collect::<Result<_, LoadError>>()?,
        });
        *known = Arc::downgrade(&shared);
        Ok(shared)
    }

    fn dense_linear(
        &self,
        master: &Source<'_>,
        name: String,
        place: usize,
        (rows, cols): (usize, usize),
        pause: &dyn Fn(),
    ) -> Result<Arc<Matrix>, LoadError> {
        let known = || self.dense.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = known().get(&place).and_then(Weak::upgrade) {
            return Ok(matrix);
        }
        let dense = master.floats(&name, place, rows * cols)?;
        let matrix = pack_rows(&mut &*dense, (rows, cols), None, self.linears, pause);
        let matrix = Arc::new(matrix.map_err(|error| LoadError::Pack(name, error))?);
        // Two sets that load at the same time may both have packed it: the first one is kept.
        let mut known = known();
        if let Some(matrix) = known.get(&place).and_then(Weak::upgrade) {
            return Ok(matrix);
        }
        known.insert(place, Arc::downgrade(&matrix));
        Ok(matrix)
    }

    fn masked_linear(
        &self,
        form: Form,
        (master, dense): (&Source<'_>, usize),
        (mask, place): (&Source<'_>, &MaskedPlace),
        name: String,
        shape: (usize, usize),
        pause: &dyn Fn(),
    ) -> Result<Matrix, LoadError> {
        let (rows, cols) = shape;
        let bits = mask.bytes(&name, place.bits, rows * cols.div_ceil(8))?;
        let bits = check_bits(&name, bits, &place.rule, shape).map_err(LoadError::Mask)?;
        pause();
        let Some((values, count)) = place.values else {
            let dense = master.floats(&name, dense, rows * cols)?;
            let matrix = pack_rows_as(form, &mut &*dense, shape, Some(bits), self.linears, pause);
            return matrix.map_err(|error| LoadError::Pack(name, error));
        };
        check_count(&name, count, &place.rule, shape).map_err(LoadError::Mask)?;
        let mut values = KeptRows::new(bits, mask.bytes(&name, values, 2 * count)?);
        let matrix = pack_rows_as(form, &mut values, shape, Some(bits), self.linears, pause);
        // The values belong to the mask, so the error does too.
        matrix.map_err(|error| match error {
            PackError::Weight { row, col, value, .. } if !value.is_finite() => {
                let index = bits.kept_before(row, col);
                LoadError::Mask(format!("value {index} of tensor '{name}' is not finite"))
            }
            error => LoadError::Mask(format!("tensor '{name}': {error}")),
        })
    }
}

struct Source<'a> {
    path: &'a Path,
    file: Arc<MappedFile>,
}

impl Source<'_> {
    fn open(path: &Path) -> Result<Source<'_>, LoadError> {
        match MappedFile::open(path) {
            Ok(file) => Ok(Source { path, file: Arc::new(file) }),
            Err(error) => Err(LoadError::File(path.to_owned(), error)),
        }
    }

    fn floats(&self, name: &str, offset: usize, count: usize) -> Result<Cow<'_, [f32]>, LoadError> {
        self.file.floats(offset, count).ok_or_else(|| self.short(name))
    }

    fn bytes(&self, name: &str, offset: usize, length: usize) -> Result<&[u8], LoadError> {
        self.file.bytes(offset, length).ok_or_else(|| self.short(name))
    }

    fn short(&self, name: &str) -> LoadError {
        LoadError::Short(self.path.to_owned(), name.to_owned())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::File(path, error) => write!(f, "{} cannot be opened: {error}", path.display()),
            LoadError::Short(path, name) => {
                write!(f, "{} ends inside of the tensor '{name}'; fetch or make it again", path.display())
            }
            LoadError::Mask(reason) => f.write_str(reason),
            LoadError::Pack(name, error) => write!(f, "tensor '{name}': {error}"),
            LoadError::Places(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for LoadError {}
