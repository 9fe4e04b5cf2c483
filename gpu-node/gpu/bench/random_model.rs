//! Seeded random weights and masks, in files that the engine loads.

use super::shapes::Set;
use crate::support::native::Random;
use copal_gpu::engine::{LINEARS, LinearPlace, MaskedPlace, ModelConfig, SharedPlaces, WeightPlaces};
use copal_native::storage::{Counted, KeptRule};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of values that the master repeats: a prime, so that no two rows of a matrix are equal.
const TILE_VALUES: usize = 1_000_003;
/// Floats between the starts of two matrices in the master.
const MATRIX_DISTANCE: usize = 64;

/// A folder that is removed with everything in it.
pub struct TemporaryDir(PathBuf);

impl TemporaryDir {
    /// Creates a folder of this process.
    pub fn new() -> Result<TemporaryDir, String> {
        let dir = TemporaryDir(std::env::temp_dir().join(format!("copal-gpu-bench-{}", std::process::id())));
        fs::create_dir(&dir.0).map_err(|error| dir.error(&error))?;
        Ok(dir)
    }

    fn error(&self, error: &io::Error) -> String {
        format!("nothing can be written to {} ({error}); set TMPDIR to another folder", self.0.display())
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A model of random weights, whose files are removed with it.
///
/// Its matrices overlap in the master, each a few floats after the one before, so that the file is little longer than the
/// largest of them. On a device each is a matrix of its own.
pub struct RandomModel {
    config: ModelConfig,
    dir: TemporaryDir,
}

impl RandomModel {
    /// Writes the master to a temporary folder.
    pub fn new(config: ModelConfig) -> Result<RandomModel, String> {
        let model = RandomModel { config, dir: TemporaryDir::new()? };
        model.write_master().map_err(|error| model.dir.error(&error))?;
        Ok(model)
    }

    fn master(&self) -> PathBuf {
        self.dir.0.join("master")
    }

    /// Norms are 1; the deviation of the weights keeps the size of activations.
    fn write_master(&self) -> io::Result<()> {
        let ModelConfig { hidden, vocab, layers, .. } = self.config;
        let largest = self.config.linear_shapes().into_iter().chain([(vocab, hidden)]);
        let largest = largest.map(|(rows, cols)| rows * cols).max().unwrap_or(0);
        let count = largest + layers * LINEARS.len() * MATRIX_DISTANCE;
        let tile = Random::new(1).normals(TILE_VALUES.min(count), 1.0 / (hidden as f32).sqrt());
        let tile: Vec<u8> = tile.into_iter().flat_map(f32::to_le_bytes).collect();
        let mut file = File::create(self.master())?;
        file.write_all(&1f32.to_le_bytes().repeat(hidden))?;
        let mut left = 4 * count;
        while left > 0 {
            let piece = &tile[..tile.len().min(left)];
            file.write_all(piece)?;
            left -= piece.len();
        }
        Ok(())
    }

    /// The places of a set's weights. Writes its mask; linears of the same shape have the same one.
    pub fn places(&self, set: &Set) -> Result<WeightPlaces, String> {
        let mask = (set.pruned > 0.0).then(|| self.dir.0.join(format!("mask-{}", set.pruned)));
        let mut masked = vec![None; LINEARS.len()];
        if let Some(path) = &mask {
            let places = self.write_mask(path, set.pruned).map_err(|error| self.dir.error(&error))?;
            masked = places.into_iter().map(Some).collect();
        }
        let ModelConfig { hidden, layers, .. } = self.config;
        let matrix = |index: usize| 4 * (hidden + index * MATRIX_DISTANCE);
        let linear = |index| LinearPlace { dense: matrix(index), masked: masked[index % LINEARS.len()] };
        let (embedding, norms) = (matrix(0), vec![(0, 0); layers]);
        Ok(WeightPlaces {
            master: self.master(),
            mask,
            shared: SharedPlaces { embedding, head: embedding, final_norm: 0, norms },
            linears: (0..layers * LINEARS.len()).map(linear).collect(),
            cancelled: Arc::default(),
        })
    }

    /// Writes masks that prune a part of every row, as evenly as whole weights of every eight allow.
    fn write_mask(&self, path: &Path, pruned: f64) -> io::Result<Vec<MaskedPlace>> {
        let bytes_of: Vec<Vec<u8>> =
            (0..=8).map(|kept| (0..=u8::MAX).filter(|byte| byte.count_ones() == kept).collect()).collect();
        let mut random = Random::new(2);
        let mut file = BufWriter::new(File::create(path)?);
        let mut bits = 0;
        let mut places = Vec::new();
        for (rows, cols) in self.config.linear_shapes() {
            assert!(cols.is_multiple_of(8), "the shapes of the benchmark have whole bytes in a row");
            let (kept, stride) = (cols - (cols as f64 * pruned) as usize, cols / 8);
            for _ in 0..rows {
                for byte in 0..stride {
                    let bytes = &bytes_of[(byte + 1) * kept / stride - byte * kept / stride];
                    file.write_all(&[bytes[random.bits() as usize % bytes.len()]])?;
                }
            }
            places.push(MaskedPlace { bits, rule: KeptRule { of: Counted::Row, kept }, values: None });
            bits += rows * stride;
        }
        file.flush()?;
        Ok(places)
    }
}
