//! The files and places of weights.

use super::MAX_THREADS;
use super::errors::{Result, invalid};
use super::fields::{Field, read};
use crate::engine::{LinearPlace, MaskedPlace, SharedPlaces, WeightPlaces};
use crate::storage::{Counted, KeptRule, MAX_GROUP};
use napi::bindgen_prelude::Unknown;
use std::ffi::CStr;
use std::path::PathBuf;
use std::sync::Arc;

/// The linears of a block in the order of [`LINEARS`](crate::engine::LINEARS), by the same names.
const LINEAR_FIELDS: [&CStr; 7] = [
    c"self_attn.q_proj",
    c"self_attn.k_proj",
    c"self_attn.v_proj",
    c"self_attn.o_proj",
    c"mlp.gate_proj",
    c"mlp.up_proj",
    c"mlp.down_proj",
];

/// The places of a model of `layers` blocks, and the number of threads that load it.
pub fn read_places(layers: usize, source: &Unknown<'_>) -> Result<(WeightPlaces, usize)> {
    let [master, mask, embedding, head, final_norm, blocks, threads] = read(
        source,
        [c"masterPath", c"maskPath", c"embedding", c"head", c"finalNorm", c"blocks", c"threads"],
    )?;
    let blocks = blocks.elements()?;
    if blocks.len() != layers {
        return Err(invalid(format!("there are {} blocks, but the model has {layers}", blocks.len())));
    }
    let (mut norms, mut linears) =
        (Vec::with_capacity(layers), Vec::with_capacity(layers * LINEAR_FIELDS.len()));
    for block in blocks {
        let [attention_norm, mlp_norm, places] = block.read([c"attentionNorm", c"mlpNorm", c"linears"])?;
        norms.push((attention_norm.whole()?, mlp_norm.whole()?));
        for place in places.read(LINEAR_FIELDS)? {
            linears.push(read_linear(place)?);
        }
    }
    let places = WeightPlaces {
        master: PathBuf::from(master.text()?),
        mask: mask.optional()?.map(|mask| mask.text()).transpose()?.map(PathBuf::from),
        shared: SharedPlaces {
            embedding: embedding.whole()?,
            head: head.whole()?,
            final_norm: final_norm.whole()?,
            norms,
        },
        linears,
        cancelled: Arc::default(),
    };
    Ok((places, threads.count(MAX_THREADS)?))
}

fn read_linear(place: Field) -> Result<LinearPlace> {
    let [dense, mask] = place.read([c"dense", c"mask"])?;
    let masked = mask.optional()?.map(read_masked).transpose()?;
    Ok(LinearPlace { dense: dense.whole()?, masked })
}

fn read_masked(mask: Field) -> Result<MaskedPlace> {
    let [bits, rule, values] = mask.read([c"bits", c"rule", c"values"])?;
    let [per, columns, kept] = rule.read([c"per", c"columns", c"kept"])?;
    let of = match per.text()?.as_str() {
        "matrix" => Counted::Matrix,
        "row" => Counted::Row,
        "group" => Counted::Columns(columns.count(MAX_GROUP)?),
        _ => return Err(per.wrong("'matrix', 'row' or 'group'")),
    };
    let values = match values.optional()? {
        Some(values) => {
            let [begin, count] = values.read([c"begin", c"count"])?;
            Some((begin.whole()?, count.whole()?))
        }
        None => None,
    };
    Ok(MaskedPlace { bits: bits.whole()?, rule: KeptRule { of, kept: kept.whole()? }, values })
}
