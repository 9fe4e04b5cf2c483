//! The benchmark of a GPU, and a check of its kernels before their speed is believed.
//!
//! | Module | Responsibility |
//! |---|---|
//! | `options` | reads the arguments |
//! | `shapes` | shapes of models, ways to store their weights, and how many layers fit a device |
//! | `random_model` | writes seeded random weights and masks |
//! | `decode` | measures the decoding of weight sets in interleaved repetitions |
//! | `check` | compares the kernels with a forward pass in double precision |

pub mod check;
pub mod decode;
pub mod options;
pub mod random_model;
pub mod shapes;

use copal_gpu::device::{DeviceDescription, Gpu, PassedOver, devices};
use options::{Command, Options};
use shapes::{Limits, SETS, SHAPES, Shape, layers_that_fit};
use std::error::Error;
use std::fs;
use std::io::Write;

/// Why the program fails.
#[derive(Debug)]
pub enum Failure {
    /// The arguments are wrong.
    Arguments(String),
    /// Something else: there is no device, its kernels are wrong, or it has too little memory.
    Run(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Run(error.into())
    }
}

/// Runs the program with its arguments.
pub fn run(arguments: impl IntoIterator<Item = String>, out: &mut dyn Write) -> Result<(), Failure> {
    match options::parse(arguments).map_err(Failure::Arguments)? {
        Command::Help => write!(out, "{}", options::HELP)?,
        Command::List => list(out)?,
        Command::Measure(options) => measure(&options, out)?,
    }
    Ok(())
}

fn list(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let devices = devices();
    if devices.is_empty() {
        return Err("no driver of this machine offers a device (CUDA, Vulkan, Metal or DX12)".into());
    }
    for device in &devices {
        writeln!(out, "{}", describe(device))?;
    }
    Ok(())
}

fn measure(options: &Options, out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let (gpu, passed_over) = Gpu::select(options.device.as_deref(), |_| Ok(()))?;
    for PassedOver { device, reason } in &passed_over {
        writeln!(out, "{} cannot be used: {reason}", device.title())?;
    }
    let device = gpu.description().clone();
    drop(gpu);
    writeln!(out, "{}", describe(&device))?;
    // All engines run on it.
    let options = &Options { device: Some(device.title()), ..options.clone() };
    if options.check {
        check::check(options.device.as_deref(), &SETS.each_ref(), out)?;
    }
    let is_software = device.kind == "software";
    if is_software {
        writeln!(
            out,
            "It is a software driver, which runs on the processor: its figures say nothing about a GPU."
        )?;
    }
    match &options.shapes {
        Some(shapes) => shapes.iter().try_for_each(|shape| measure_shape(options, &device, shape, out)),
        None if is_software => {
            Ok(writeln!(out, "To run the benchmark all the same, slowly, name shapes with --shape.")?)
        }
        None => SHAPES.iter().try_for_each(|shape| measure_shape(options, &device, shape, out)),
    }
}

/// Measures all sets of one shape.
pub fn measure_shape(
    options: &Options,
    device: &DeviceDescription,
    shape: &Shape,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let layers = match options.layers {
        Some(layers) => layers.min(shape.layers),
        None => {
            let bytes = memory_bytes(device).ok_or("the memory of the device is unknown; pass --layers")?;
            let tokens = decode::cache_tokens(options);
            layers_that_fit(shape, &options.sets, &Limits { device_bytes: bytes, cache_tokens: tokens })
        }
    };
    if layers == 0 {
        let (name, tokens) = (shape.name, decode::cache_tokens(options));
        writeln!(
            out,
            "\nLLaMA {name}: not even one layer fits the memory of the device, with the keys and values of {tokens} tokens."
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "\nLLaMA {} with {layers} of {} layers, seeded random weights and masks",
        shape.name, shape.layers
    )?;
    decode::measure(options, shape, layers, out)
}

/// Bytes of a device's memory; of what is free on the machine where it has none of its own or does not tell.
fn memory_bytes(device: &DeviceDescription) -> Option<u64> {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    });
    if matches!(device.kind, "discrete" | "virtual") {
        return device.memory_bytes.or(free);
    }
    [device.memory_bytes, free].into_iter().flatten().min()
}

fn describe(device: &DeviceDescription) -> String {
    let DeviceDescription { name, api, kind, driver, .. } = device;
    let memory =
        memory_bytes(device).map_or("unknown".to_owned(), |bytes| format!("{:.1} GB of", bytes as f64 / 1e9));
    format!("{name}: {kind}, {api}, driver {driver}, {memory} memory")
}
