//! The benchmark's program: its arguments, its check, and a run of a tiny shape.

use crate::bench::options::{Command, Options, parse};
use crate::bench::shapes::{Limits, SETS, SHAPES, Shape, layers_that_fit};
use crate::bench::{Failure, check, measure_shape, run};
use copal_gpu::device::devices;
use std::env;

fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn arguments_are_read_in_both_spellings() {
    let text = "--device LLVM --check --shape 7b,smollm2 --layers=3 --sets int4,50% --streams 4,1,4 --context=8 \
                --steps 2 --repetitions 3 --seconds 9 --bandwidth 3350.5";
    let Ok(Command::Measure(options)) = parse(arguments(text)) else { panic!("they are right") };
    let shapes: Vec<_> = options.shapes.unwrap().iter().map(|shape| shape.name).collect();
    let sets: Vec<_> = options.sets.iter().map(|set| set.name).collect();
    assert_eq!((options.device.as_deref(), options.check), (Some("LLVM"), true));
    assert_eq!((shapes, sets), (vec!["smollm2", "7b"], vec!["50%", "int4"]));
    assert_eq!((options.layers, options.streams, options.bandwidth), (Some(3), vec![4, 1], Some(3350.5)));
    assert_eq!((options.context, options.steps, options.repetitions, options.seconds), (8, 2, 3, 9));
    assert!(matches!(parse(arguments("--list --device x")), Ok(Command::List)));
    assert!(matches!(parse(arguments("--steps 1 --help")), Ok(Command::Help)));
}

#[test]
fn a_wrong_argument_is_named_with_what_is_expected() {
    for (text, expected) in [
        ("--stream 1", "there is no option '--stream'"),
        ("7b", "'7b' is not an option"),
        ("--check=yes", "--check takes no value"),
        ("--device", "--device needs a value"),
        ("--device --list", "--device needs a value"),
        ("--shape 7b,13b", "--shape has '13b'; one or more of smollm2,1.1b,7b are expected"),
        ("--sets 40%", "--sets has '40%'; one or more of dense,50%,60%,int8,int4,int4-50% are expected"),
        ("--layers 0", "--layers is '0'; a whole number from 1 to 1000 is expected"),
        ("--steps 1.5", "--steps is '1.5'; a whole number from 1 to 1048576 is expected"),
        (
            "--streams 1,,4",
            "--streams is '1,,4'; whole numbers from 1 to 1024 are expected, with commas between them",
        ),
        ("--bandwidth nan", "--bandwidth is 'nan'; a number of GB/s above 0 is expected"),
    ] {
        match run(arguments(text), &mut Vec::new()) {
            Err(Failure::Arguments(reason)) => assert_eq!(reason, expected),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn an_unknown_device_is_not_an_error_of_the_arguments() {
    match run(arguments("--device no-such-card"), &mut Vec::new()) {
        Err(Failure::Run(error)) => assert!(error.to_string().contains("no device is called 'no-such-card'")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn layers_fit_the_memory_of_the_device_with_keys_and_values() {
    let sets: Vec<_> = SETS.iter().collect();
    let fit = |shape, device_bytes, cache_tokens| {
        layers_that_fit(shape, &sets, &Limits { device_bytes, cache_tokens })
    };
    let [small, _, large] = &SHAPES;
    assert_eq!(fit(small, 80_000_000_000, 4096), 30);
    assert_eq!(fit(large, 80_000_000_000, 4096), 32);
    // 70 % of the memory, less 3.5 bytes a value of three tables, at 6.15 bytes a weight.
    assert_eq!(fit(large, 24_000_000_000, 4096), 12);
    assert_eq!(fit(large, 24_000_000_000, 1 << 16), 4);
    assert_eq!(fit(large, 1_000_000_000, 4096), 0);
}

#[test]
fn the_kernels_pass_the_check_and_a_tiny_shape_is_measured() {
    let mut out = Vec::new();
    // A software driver takes seconds for each kind of forms.
    let few = |names: &[&str]| -> Vec<_> {
        let all = env::var_os("TEST_GPU").is_some();
        SETS.iter().filter(|set| all || names.contains(&set.name)).collect()
    };
    let checked = few(&["50%", "int4"]);
    check::check(None, &checked, &mut out).unwrap();
    let shape = Shape {
        name: "tiny",
        layers: 2,
        hidden: 48,
        intermediate: 72,
        heads: 3,
        kv_heads: 1,
        head_dim: 16,
        vocab: 99,
    };
    let sets = few(&["dense", "50%"]);
    let options = Options {
        sets: sets.clone(),
        streams: vec![1, 3],
        context: 17,
        steps: 2,
        repetitions: 2,
        bandwidth: Some(1.0),
        ..Options::default()
    };
    measure_shape(&options, &devices()[0], &shape, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("right: log-likelihoods are within").count(), checked.len(), "{text}");
    assert!(text.contains("LLaMA tiny with 2 of 2 layers"), "{text}");
    for streams in ["1 stream, ", "3 streams, "] {
        for set in &sets {
            let start = format!("{streams}{}", set.name);
            let line = text.lines().find(|line| line.starts_with(&start)).expect(&start);
            assert!(line.contains("n=2) tokens/s") && line.contains("% of the bound"), "{line}");
            assert_eq!(line.contains("× dense"), set.name != "dense", "{line}");
        }
    }
}
