//! The options of an engine.

use super::MAX_PAGES;
use super::errors::{Code, Result, error, invalid};
use super::fields::{Field, count};
use crate::engine::{KvPrecision, ModelConfig};
use crate::storage::Precision;

const MAX_BATCH_TOKENS: usize = 1 << 16;
/// The largest size of a model that [`ModelConfig::check`] accepts.
const MAX_SIZE: usize = (1 << 24) - 1;

/// The shape of a model, checked.
pub fn read_config(model: Field) -> Result<ModelConfig> {
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

/// The number of pages. A count that is out of range has the code of one that the machine cannot have, because the same
/// setting of the node decides both.
pub fn page_count(pages: Field) -> Result<usize> {
    let found = pages.number()?;
    count("pages", found, MAX_PAGES).map_err(|reason| error(Code::InvalidPageCount, &reason.reason))
}

/// The number of tokens that go through the blocks together.
pub fn batch_token_count(batch_tokens: Field) -> Result<usize> {
    batch_tokens.count(MAX_BATCH_TOKENS)
}

/// The precision of weights.
pub fn read_precision(precision: Field) -> Result<Precision> {
    Precision::named(&precision.text()?).map_err(invalid)
}

/// The precision of keys and values, f16 by default.
pub fn read_kv_precision(precision: Field) -> Result<KvPrecision> {
    match precision.optional()? {
        Some(precision) => KvPrecision::named(&precision.text()?).map_err(invalid),
        None => Ok(KvPrecision::default()),
    }
}
