//! The files and places that a weight set is loaded from.

use crate::storage::{KeptRule, PackError};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fmt, io, panic, thread};

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

/// The place of a linear in a mask file: offsets in bytes from its start.
#[derive(Clone, Copy, Debug)]
pub struct MaskedPlace {
    /// Its mask bits.
    pub bits: usize,
    /// How many weights they must keep.
    pub rule: KeptRule,
    /// The bf16 values of the kept weights, and their number; `None` if the weights are those of the master.
    pub values: Option<(usize, usize)>,
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
    /// Set, it ends the load before the next linear.
    pub cancelled: Arc<AtomicBool>,
}

/// Why weights cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// A file cannot be opened.
    File(PathBuf, io::Error),
    /// A file ends inside of a tensor.
    Short(PathBuf, String),
    /// The mask does not fit: the tensor, and what is wrong with it.
    Mask(String),
    /// A tensor cannot be packed.
    Pack(String, PackError),
    /// The places do not fit the model, or there is no mask file.
    Places(String),
    /// The weights are no longer wanted.
    Cancelled,
}

impl WeightPlaces {
    /// Checks that the places make up a model of `layers` layers.
    pub fn check(&self, layers: usize) -> Result<(), LoadError> {
        if self.linears.len() == layers * LINEARS.len() && self.shared.norms.len() == layers {
            return Ok(());
        }
        let (linears, norms) = (self.linears.len(), self.shared.norms.len());
        Err(LoadError::Places(format!(
            "{linears} linears and {norms} pairs of norms do not make up a model of {layers} layers"
        )))
    }

    /// Loads every linear, given its index and its place, on `threads` threads of its own; each makes one loader by
    /// `loader`. Returns what they loaded in the order of the linears, or the first error in this order.
    pub fn load_linears<T: Send, E: From<LoadError> + Send, L>(
        &self,
        threads: usize,
        loader: impl Fn() -> L + Sync,
    ) -> Result<Vec<T>, E>
    where
        L: FnMut(usize, &LinearPlace) -> Result<T, E>,
    {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut load = loader();
            let mut loaded = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(place) = self.linears.get(index) else {
                    return loaded;
                };
                let linear = if self.cancelled.load(Ordering::Relaxed) {
                    Err(LoadError::Cancelled.into())
                } else {
                    load(index, place)
                };
                // Then the other threads find nothing left to do.
                if linear.is_err() {
                    next.store(self.linears.len(), Ordering::Relaxed);
                }
                loaded.push((index, linear));
            }
        };
        let mut loaded = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
            };
            threads.into_iter().flat_map(join).collect::<Vec<_>>()
        });
        loaded.sort_unstable_by_key(|(index, _)| *index);
        loaded.into_iter().map(|(_, linear)| linear).collect()
    }
}

/// The name of a linear's tensor in the master file and the mask file, by its index among the linears of all blocks.
pub fn linear_name(index: usize) -> String {
    format!("model.layers.{}.{}.weight", index / LINEARS.len(), LINEARS[index % LINEARS.len()])
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
            LoadError::Cancelled => f.write_str("the load was cancelled"),
        }
    }
}

impl std::error::Error for LoadError {}
