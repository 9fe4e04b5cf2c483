//! The arguments of the program.

use super::shapes::{SETS, SHAPES, Set, Shape};

/// The text of `--help`.
pub const HELP: &str = "\
Measures the decoding of LLaMAs of seeded random weights on a GPU, dense and pruned.

Usage: copal-gpu-bench [options]

  --list              list the devices
  --device NAME       a part of the device's interface and name, such as vulkan (default: the best device)
  --check             first compare the kernels with a forward pass in f64; measure only if they are right
  --shape NAMES       any of smollm2,1.1b,7b (default: all; none with a software driver)
  --layers N          layers of a model (default: as many as fit with all sets loaded at once)
  --sets NAMES        any of dense,50%,60%,int8,int4,int4-50% (default: all); 50% and 60% are bf16, the head is int8
  --streams SIZES     numbers of concurrent streams (default: 1,4,16,64)
  --context N         tokens of a stream before decoding; attention costs the same in all sets (default: 32).
                      From 512 on it is divided into spans: --streams 1,4 --context 8192 measures it
  --steps N           tokens of a stream to decode in a repetition (default: 32)
  --repetitions N     number of interleaved repetitions, after one to warm up (default: 5)
  --seconds N         no repetition of a shape begins after this time; one always runs (default: 120)
  --bandwidth GB/s    of the device's memory, from its data sheet, to compare with
  --help              show this text

Weights and masks go through a temporary file of up to 0.6 GB, in $TMPDIR or /tmp.
";

/// The task that the arguments ask for.
#[derive(Debug)]
pub enum Command {
    Help,
    List,
    Measure(Options),
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// A part of the interface and name of the device.
    pub device: Option<String>,
    /// Whether to check the kernels first.
    pub check: bool,
    /// `None` for the default.
    pub shapes: Option<Vec<&'static Shape>>,
    /// `None` for as many as fit.
    pub layers: Option<usize>,
    pub sets: Vec<&'static Set>,
    pub streams: Vec<usize>,
    pub context: usize,
    pub steps: usize,
    pub repetitions: usize,
    pub seconds: usize,
    /// GB/s.
    pub bandwidth: Option<f64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            device: None,
            check: false,
            shapes: None,
            layers: None,
            sets: SETS.iter().collect(),
            streams: vec![1, 4, 16, 64],
            context: 32,
            steps: 32,
            repetitions: 5,
            seconds: 120,
            bandwidth: None,
        }
    }
}

/// Reads the arguments. An error says which one is wrong and what is expected.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut options = Options::default();
    let mut is_list = false;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, joined) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if let ("--help" | "--list" | "--check", Some(_)) = (name, &joined) {
            return Err(format!("{name} takes no value"));
        }
        let value = || {
            let value = joined.or_else(|| arguments.next());
            value
                .filter(|value| !value.is_empty() && !value.starts_with("--"))
                .ok_or_else(|| format!("{name} needs a value"))
        };
        match name {
            "--help" | "-h" => return Ok(Command::Help),
            "--list" => is_list = true,
            "--check" => options.check = true,
            "--device" => options.device = Some(value()?),
            "--shape" => options.shapes = Some(some_of(name, &value()?, &SHAPES, |shape| shape.name)?),
            "--sets" => options.sets = some_of(name, &value()?, &SETS, |set| set.name)?,
            "--layers" => options.layers = Some(count(name, &value()?, 1000)?),
            "--streams" => options.streams = streams(name, &value()?)?,
            "--context" => options.context = count(name, &value()?, 1 << 20)?,
            "--steps" => options.steps = count(name, &value()?, 1 << 20)?,
            "--repetitions" => options.repetitions = count(name, &value()?, 10_000)?,
            "--seconds" => options.seconds = count(name, &value()?, 1_000_000)?,
            "--bandwidth" => options.bandwidth = Some(bandwidth(name, &value()?)?),
            _ if name.starts_with('-') => return Err(format!("there is no option '{name}'")),
            _ => return Err(format!("'{argument}' is not an option")),
        }
    }
    Ok(if is_list { Command::List } else { Command::Measure(options) })
}

fn count(name: &str, text: &str, max: usize) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=max).contains(count));
    count.ok_or_else(|| format!("{name} is '{text}'; a whole number from 1 to {max} is expected"))
}

fn streams(name: &str, text: &str) -> Result<Vec<usize>, String> {
    let mut streams = Vec::new();
    for part in text.split(',') {
        let count = part.trim().parse().ok().filter(|count| (1..=1024).contains(count));
        let count: usize = count.ok_or_else(|| {
            format!("{name} is '{text}'; whole numbers from 1 to 1024 are expected, with commas between them")
        })?;
        if !streams.contains(&count) {
            streams.push(count);
        }
    }
    Ok(streams)
}

fn bandwidth(name: &str, text: &str) -> Result<f64, String> {
    let bandwidth = text.parse().ok().filter(|bandwidth: &f64| bandwidth.is_finite() && *bandwidth > 0.0);
    bandwidth.ok_or_else(|| format!("{name} is '{text}'; a number of GB/s above 0 is expected"))
}

/// Reads names with commas between them, in the order of `known`.
fn some_of<T>(
    option: &str,
    text: &str,
    known: &'static [T],
    name_of: fn(&T) -> &'static str,
) -> Result<Vec<&'static T>, String> {
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    if let Some(name) = names.iter().find(|name| known.iter().all(|item| name_of(item) != **name)) {
        let known: Vec<&str> = known.iter().map(name_of).collect();
        return Err(format!("{option} has '{name}'; one or more of {} are expected", known.join(",")));
    }
    Ok(known.iter().filter(|item| names.contains(&name_of(item))).collect())
}
