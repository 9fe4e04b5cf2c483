use super::ModelConfig;
use super::mapped::{MappedFile, Source};
use super::masked::{check_bits, check_count, values_error};
use super::pace::Pace;
use super::places::{LINEARS, LinearPlace, LoadError, MaskedPlace, SharedPlaces, WeightPlaces, linear_name};
use super::trial::{TrialError, try_out};
use crate::cpu::Implementation;
use crate::storage::{Arena, Form, Format, KeptRows, Matrix, Spare, pack_rows, pack_rows_as};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// How a weight set stores its pruned linears. The form changes no bit of a result but in int4, see [`Form`].
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

/// The means of a thread that packs a weight set.
struct PackThread<'a> {
    memory: &'a SetMemory,
    pause: &'a dyn Fn(),
}

/// Bytes of mappings whose linears other sets may share. One linear keeps at most so many bytes of others that were released.
const SHARED_CHUNK_BYTES: usize = 16 << 20;

/// The memory of a weight set's linears.
struct SetMemory {
    /// Holds those with a mask, which are released with the set.
    masked: Arena,
    /// Holds those without one, which other sets may share.
    dense: Arena,
}

/// Loads the weight sets of one model, the linears in one format and the head in another. Weight sets that exist at the
/// same time share the weights that they have in common.
pub struct WeightLibrary {
    config: ModelConfig,
    linears: Format,
    head: Format,
    pace: Arc<Pace>,
    shared: Mutex<Weak<SharedWeights>>,
    /// Holds the memory that a released set leaves to the next one.
    spare: Arc<Spare>,
    /// Dense linears by their place in the master.
    dense: Mutex<HashMap<usize, Weak<Matrix>>>,
    next_id: AtomicU64,
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
            spare: Arc::default(),
            dense: Mutex::new(HashMap::new()),
            next_id: AtomicU64::new(1),
        }
    }

    /// Packs a weight set in a form, on `threads` threads of its own.
    pub fn load(&self, places: &WeightPlaces, form: SetForm, threads: usize) -> Result<WeightSet, LoadError> {
        places.check(self.config.layers)?;
        let master = Source::open(&places.master)?;
        let mask = places.mask.as_deref().map(Source::open).transpose()?;
        let shared = self.shared(&master, &places.shared)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let memory = SetMemory {
            masked: Arena::with_spare(&self.spare),
            dense: Arena::with_chunks(SHARED_CHUNK_BYTES),
        };
        let pack = |form| self.linears((&master, mask.as_ref()), places, form, &memory, threads);
        let set = match form {
            SetForm::One(form) => WeightSet { id, shared, linears: pack(form)?, dense: None },
            SetForm::Both { dense_from } => {
                let linears = pack(Form::Packed)?;
                let dense = DenseForm { min_tokens: dense_from, linears: pack(Form::Dense)? };
                WeightSet { id, shared, linears, dense: Some(dense) }
            }
        };
        // As much as the next one will need. A set without masks takes nothing from it.
        let bytes = memory.masked.mapped_bytes();
        if bytes > 0 {
            self.spare.limit(bytes);
        }
        Ok(set)
    }

    /// Gives the memory back that released sets have left. The next one gets new memory, and leaves it again.
    pub fn give_memory_back(&self) {
        self.spare.limit(0);
    }

    /// Runs the prompt `tokens` on weights of this library; see [`try_out`].
    pub fn try_out(
        &self,
        implementation: &'static Implementation,
        weights: &WeightSet,
        tokens: &[u32],
    ) -> Result<Vec<f32>, TrialError> {
        try_out(&self.config, implementation, &self.pace, weights, tokens)
    }

    fn linears(
        &self,
        files: (&Source<'_>, Option<&Source<'_>>),
        places: &WeightPlaces,
        form: Form,
        memory: &SetMemory,
        threads: usize,
    ) -> Result<Vec<Arc<Matrix>>, LoadError> {
        places.load_linears(threads, || {
            let packer = self.pace.packer(threads);
            move |index, place| {
                let thread = PackThread { memory, pause: &|| packer.pause() };
                self.linear(form, files, index, place, &thread)
            }
        })
    }

    fn linear(
        &self,
        form: Form,
        (master, mask): (&Source<'_>, Option<&Source<'_>>),
        index: usize,
        place: &LinearPlace,
        thread: &PackThread<'_>,
    ) -> Result<Arc<Matrix>, LoadError> {
        let name = linear_name(index);
        let shape = self.config.linear_shapes()[index % LINEARS.len()];
        let Some(masked) = &place.masked else {
            return self.dense_linear(master, name, place.dense, shape, thread);
        };
        let mask =
            mask.ok_or_else(|| LoadError::Places(format!("{name} has bits, but there is no mask file")))?;
        self.masked_linear(form, (master, place.dense), (mask, masked), name, shape, thread).map(Arc::new)
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
        let head =
            pack_rows(&mut &*head, (vocab, hidden), None, self.head, &Arena::default(), &|| packer.pause());
        let norms = places.norms.iter().enumerate().map(|(layer, &(attention, mlp))| {
            Ok((
                norm(&format!("model.layers.{layer}.input_layernorm.weight"), attention)?,
                norm(&format!("model.layers.{layer}.post_attention_layernorm.weight"), mlp)?,
            ))
        });
        let shared = Arc::new(SharedWeights {
            // The mapping lives as long as the weights.
            master: Arc::clone(master.file()),
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
        PackThread { memory, pause }: &PackThread<'_>,
    ) -> Result<Arc<Matrix>, LoadError> {
        let known = || self.dense.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = known().get(&place).and_then(Weak::upgrade) {
            return Ok(matrix);
        }
        let dense = master.floats(&name, place, rows * cols)?;
        let matrix = pack_rows(&mut &*dense, (rows, cols), None, self.linears, &memory.dense, pause);
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
        PackThread { memory, pause }: &PackThread<'_>,
    ) -> Result<Matrix, LoadError> {
        let (rows, cols) = shape;
        let bits = mask.bytes(&name, place.bits, rows * cols.div_ceil(8))?;
        let bits = check_bits(&name, bits, &place.rule, shape)?;
        pause();
        let Some((values, count)) = place.values else {
            let dense = master.floats(&name, dense, rows * cols)?;
            let matrix =
                pack_rows_as(form, &mut &*dense, shape, Some(bits), self.linears, &memory.masked, pause);
            return matrix.map_err(|error| LoadError::Pack(name, error));
        };
        check_count(&name, count, &place.rule, shape)?;
        let mut values = KeptRows::new(bits, mask.bytes(&name, values, 2 * count)?);
        let matrix = pack_rows_as(form, &mut values, shape, Some(bits), self.linears, &memory.masked, pause);
        matrix.map_err(|error| values_error(&name, bits, error))
    }
}
