//! Engines and weights of a seeded model.

use super::model::Model;
use copal_native::cpu::Implementation;
use copal_native::engine::{Engine, EngineOptions, KvPrecision, SetForm, WeightLibrary, WeightSet};
use copal_native::storage::{Form, Format, Precision};
use std::sync::Arc;

pub fn engine(
    model: &Model,
    implementation: &'static Implementation,
    threads: usize,
    pages: usize,
) -> Engine {
    let options = EngineOptions { threads, pages, kv_precision: KvPrecision::F16, batch_tokens: 16 };
    Engine::new(model.config.clone(), implementation, &options).unwrap()
}

pub fn weights(model: &Model, format: Format) -> WeightSet {
    WeightLibrary::new(model.config.clone(), format, Format::usual(Precision::Int8), Arc::default())
        .load(&model.places, SetForm::One(Form::Packed), 2)
        .unwrap()
}
