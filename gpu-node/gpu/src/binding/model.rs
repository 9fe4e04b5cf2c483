//! Reads the shape of a model, as the native addon does.

use super::errors::{Result, invalid};
use super::fields::Field;
use crate::engine::ModelConfig;

/// The largest size of a model that [`ModelConfig::check`] accepts.
const MAX_SIZE: usize = (1 << 24) - 1;

/// A configuration that was checked.
pub(super) fn read_config(model: Field) -> Result<ModelConfig> {
    let [hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, context, eps, rope] =
        model.read([
            c"hidden",
            c"layers",
            c"heads",
            c"kvHeads",
            c"headDim",
            c"intermediate",
            c"vocab",
            c"context",
            c"eps",
            c"ropeFrequencies",
        ])?;
    let config = ModelConfig {
        hidden: hidden.count(MAX_SIZE)?,
        layers: layers.count(MAX_SIZE)?,
        heads: heads.count(MAX_SIZE)?,
        kv_heads: kv_heads.count(MAX_SIZE)?,
        head_dim: head_dim.count(MAX_SIZE)?,
        intermediate: intermediate.count(MAX_SIZE)?,
        vocab: vocab.count(MAX_SIZE)?,
        context: context.count(MAX_SIZE)?,
        eps: eps.number()? as f32,
        rope: rope.f64_array()?.to_vec(),
    };
    config.check().map_err(invalid)?;
    Ok(config)
}
