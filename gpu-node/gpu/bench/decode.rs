//! Decoding with weight sets, measured in interleaved repetitions.

use super::options::Options;
use super::random_model::RandomModel;
use super::shapes::{ENGINES, Set, Shape};
use copal_gpu::device::Gpu;
use copal_gpu::engine::{Engine, EngineOptions, Output, PAGE_TOKENS, WeightSet, Work};
use std::error::Error;
use std::io::Write;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Tokens that go through the blocks together, and tokens of a prompt in a step: as on a node.
const BATCH_TOKENS: usize = 256;
/// The output that a node asks for to sample greedily.
const GREEDY: Output<'static> = Output::Candidates { temperature: 1.0, chances: &[0.5] };
/// The first candidate's place among the results of a work.
const FIRST_CANDIDATE: usize = 4;

/// Tokens whose keys and values an engine holds.
pub fn cache_tokens(options: &Options) -> usize {
    options.streams.iter().max().unwrap_or(&0) * pages_of_a_stream(options) * PAGE_TOKENS
}

fn pages_of_a_stream(options: &Options) -> usize {
    (options.context + options.steps).div_ceil(PAGE_TOKENS)
}

/// A set on its engine.
struct Loaded {
    set: &'static Set,
    /// The index of its engine.
    engine: usize,
    weights: WeightSet,
    /// Tokens per second of each repetition, for each number of streams.
    rates: Vec<Vec<f64>>,
}

/// Loads the sets of a model of `layers` layers, and prints how fast they decode at each number of streams. Every
/// repetition measures every number of streams on every set.
pub fn measure(
    options: &Options,
    shape: &Shape,
    layers: usize,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let (mut engines, mut sets) = load(options, shape, layers, out)?;
    let started = Instant::now();
    let limit = Duration::from_secs(options.seconds as u64);
    // Repetition 0 warms up.
    for repetition in 0..=options.repetitions {
        if repetition > 1 && started.elapsed() > limit {
            break;
        }
        for (index, &streams) in options.streams.iter().enumerate() {
            for Loaded { engine, weights, rates, .. } in &mut sets {
                let steps = if repetition == 0 { 1 } else { options.steps };
                let run = Run { streams, context: options.context, steps, vocab: shape.vocab };
                let rate = decode(&mut engines[*engine], weights, &run)?;
                if repetition > 0 {
                    rates[index].push(rate);
                }
            }
        }
    }
    let dense = sets.iter().find(|loaded| loaded.set.name == "dense");
    for (index, streams) in options.streams.iter().enumerate() {
        for loaded in &sets {
            let dense = dense.filter(|dense| dense.set.name != loaded.set.name);
            let figures = figures(options, (index, *streams), loaded, dense);
            let plural = if *streams == 1 { "" } else { "s" };
            writeln!(out, "{:<24} {figures}", format!("{streams} stream{plural}, {}", loaded.set.name))?;
        }
    }
    Ok(())
}

/// Loads all sets, those with the same forms on one engine. The files are removed when they are loaded.
fn load(
    options: &Options,
    shape: &Shape,
    layers: usize,
    out: &mut dyn Write,
) -> Result<(Vec<Engine>, Vec<Loaded>), Box<dyn Error>> {
    let config = shape.config(layers, options.context + options.steps);
    let model = RandomModel::new(config.clone())?;
    let threads = available_parallelism().map_or(1, usize::from);
    let (mut engines, mut sets) = (Vec::new(), Vec::new());
    for kind in &ENGINES {
        for (index, &set) in options.sets.iter().filter(|set| set.engine.name == kind.name).enumerate() {
            if index == 0 {
                let pages = cache_tokens(options) / PAGE_TOKENS;
                let engine = EngineOptions { forms: kind.forms, pages, batch_tokens: BATCH_TOKENS };
                let gpu = Gpu::open(options.device.as_deref())?;
                engines.push(Engine::new(config.clone(), gpu, &engine)?);
            }
            let engine = engines.len() - 1;
            let started = Instant::now();
            let weights = engines[engine].library().load(&model.places(set)?, threads)?;
            writeln!(
                out,
                "{:<24} {:.1} MB per token at 1 stream, loaded in {:.1} s",
                format!("{}, head int8", set.name),
                weights.stream_bytes() as f64 / 1e6,
                started.elapsed().as_secs_f64()
            )?;
            sets.push(Loaded { set, engine, weights, rates: vec![Vec::new(); options.streams.len()] });
        }
    }
    Ok((engines, sets))
}

/// What one measurement decodes.
struct Run {
    streams: usize,
    /// Tokens of a stream before.
    context: usize,
    /// Tokens of a stream to decode.
    steps: usize,
    vocab: usize,
}

/// Returns the tokens per second over all streams.
fn decode(engine: &mut Engine, weights: &WeightSet, run: &Run) -> Result<f64, Box<dyn Error>> {
    let &Run { streams, context, steps, vocab } = run;
    let pages = (context + steps).div_ceil(PAGE_TOKENS);
    let pages: Vec<Vec<u32>> = (0..streams)
        .map(|stream| (stream * pages..(stream + 1) * pages).map(|page| page as u32).collect())
        .collect();
    let mut step = |position: usize, tokens: &[Vec<u32>], samples: bool| {
        let works = tokens.iter().zip(&pages).enumerate().map(|(stream, (tokens, pages))| {
            let output = if samples { GREEDY } else { Output::None };
            Work { sequence: stream as u64, position, tokens, cached: 0, pages, output }
        });
        let works: Vec<_> = works.collect();
        let mut results = Vec::new();
        engine.step(weights, &works, &[], &mut results)?;
        Ok::<_, Box<dyn Error>>(results)
    };
    let mut results = Vec::new();
    for first in (0..context).step_by(BATCH_TOKENS) {
        let end = context.min(first + BATCH_TOKENS);
        let token = |stream, position| ((stream + position) * 7919 % vocab) as u32;
        let tokens: Vec<Vec<u32>> = (0..streams)
            .map(|stream| (first..end).map(|position| token(stream, position)).collect())
            .collect();
        results = step(first, &tokens, end == context)?;
    }
    let started = Instant::now();
    for index in 0..steps {
        results = step(context + index, &best_tokens(&results, streams)?, true)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    best_tokens(&results, streams)?;
    engine.drop_sequences_of(weights);
    Ok((streams * steps) as f64 / seconds)
}

/// The most probable token of each stream.
fn best_tokens(results: &[f32], streams: usize) -> Result<Vec<Vec<u32>>, String> {
    let best = results.chunks(results.len() / streams).map(|result| {
        let [token, logit] = [result[FIRST_CANDIDATE], result[FIRST_CANDIDATE + 1]];
        if logit.is_finite() {
            Ok(vec![token as u32])
        } else {
            Err(format!("a logit is {logit}: the kernels are wrong"))
        }
    });
    best.collect()
}

/// The figures of a set at one number of streams.
fn figures(
    options: &Options,
    (index, streams): (usize, usize),
    loaded: &Loaded,
    dense: Option<&Loaded>,
) -> String {
    let (rates, streams) = (&loaded.rates[index], streams as f64);
    let bytes = loaded.weights.stream_bytes() as f64;
    let mut parts =
        vec![format!("{} tokens/s", spread(rates, 1)), format!("{:.1} MB per token", bytes / streams / 1e6)];
    if let Some(bandwidth) = options.bandwidth {
        let shares: Vec<f64> =
            rates.iter().map(|rate| rate / streams * bytes / (bandwidth * 1e9) * 100.0).collect();
        parts.push(format!("{} % of the bound", spread(&shares, 1)));
    }
    if let Some(dense) = dense {
        let ratios: Vec<f64> =
            rates.iter().zip(&dense.rates[index]).map(|(rate, dense)| rate / dense).collect();
        parts.push(format!("{} × dense", spread(&ratios, 2)));
    }
    parts.join(", ")
}

/// Median, minimum, maximum and number of at least one value.
fn spread(values: &[f64], digits: usize) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (count, middle) = (sorted.len(), sorted.len() / 2);
    let median =
        if count.is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
    let (min, max) = (sorted[0], sorted[count - 1]);
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$}, n={count})")
}
