//! A seeded model of two layers.

use super::random::{Random, mask_of};
use copal_native::engine::{LinearPlace, MaskedPlace, ModelConfig, SharedPlaces, WeightPlaces};
use copal_native::storage::{Counted, KeptRule};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Files of a model of two layers, removed with it.
pub struct Model {
    pub config: ModelConfig,
    pub places: WeightPlaces,
    /// The same under another mask, which keeps what the first one prunes.
    pub other: WeightPlaces,
    dir: PathBuf,
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn model(name: &str) -> Model {
    let rope = (0..8).map(|pair| 10_000f64.powf(-f64::from(pair) / 8.0)).collect();
    let config = ModelConfig {
        hidden: 48,
        layers: 2,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        intermediate: 72,
        vocab: 99,
        context: 64,
        eps: 1e-5,
        rope,
    };
    let mut random = Random::new(1);
    let (mut dense, mut masks) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut add = |random: &mut Random, count: usize, deviation: f32, mean: f32| {
        let place = dense.len();
        for value in random.normals(count, deviation) {
            dense.extend((value + mean).to_le_bytes());
        }
        place
    };
    let embedding = add(&mut random, 99 * 48, 0.5, 0.0);
    let final_norm = add(&mut random, 48, 0.1, 1.0);
    let mut norm = |random: &mut Random| add(random, 48, 0.1, 1.0);
    let norms = (0..2).map(|_| (norm(&mut random), norm(&mut random))).collect();
    let mut linears = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        for (rows, cols) in [(96, 48), (32, 48), (32, 48), (48, 96), (72, 48), (72, 48), (48, 72)] {
            let place = add(&mut random, rows * cols, 1.0 / (cols as f32).sqrt(), 0.0);
            let keeps: Vec<bool> = (0..rows * cols).map(|_| random.uniform() < 0.5).collect();
            for (first, (linears, bits)) in [true, false].into_iter().zip(linears.iter_mut().zip(&mut masks))
            {
                let mask = mask_of(rows, cols, |row, col| keeps[row * cols + col] == first);
                let kept = mask.iter().map(|byte| byte.count_ones() as usize).sum();
                let rule = KeptRule { of: Counted::Matrix, kept };
                let masked = Some(MaskedPlace { bits: bits.len(), rule, values: None });
                linears.push(LinearPlace { dense: place, masked });
                bits.extend(mask);
            }
        }
    }
    let dir = std::env::temp_dir().join(format!("copal-engine-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let master = dir.join("master");
    fs::write(&master, dense).unwrap();
    let shared = SharedPlaces { embedding, head: embedding, final_norm, norms };
    let [places, other] = [0, 1].map(|index| {
        let mask = dir.join(format!("mask-{index}"));
        fs::write(&mask, &masks[index]).unwrap();
        let (shared, linears) = (shared.clone(), linears[index].clone());
        WeightPlaces { master: master.clone(), mask: Some(mask), shared, linears, cancelled: Arc::default() }
    });
    Model { config, places, other, dir }
}
