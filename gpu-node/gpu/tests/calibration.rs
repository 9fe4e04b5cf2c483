//! Calibrations of a block against those in double precision.

use crate::support::block::{Block, Found, block, run};
use crate::support::{bits, open};
use copal_gpu::calibration::{Calibrator, Fault, Limits};
use copal_gpu::engine::ModelConfig;
use copal_gpu::fault::DeviceFault;

/// The largest error, relative to the largest number.
fn error(found: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(found.len(), exact.len());
    let largest = exact.iter().fold(0f64, |most, value| most.max(value.abs()));
    let errors = found.iter().zip(exact).map(|(&found, exact)| (f64::from(found) - exact).abs());
    // `max` would ignore NaN.
    errors.fold(0.0, |most, error| if error <= most { most } else { error }) / largest
}

fn assert_close(found: &Found<f32>, exact: &Found<f64>, what: &str) {
    let named = |name: &str, found: &[Vec<f32>], exact: &[Vec<f64>]| {
        for (index, (found, exact)) in found.iter().zip(exact).enumerate() {
            let error = error(found, exact);
            assert!(error < 3e-6, "{what}: {name} {index} is off by {error:e}");
        }
    };
    named("output", std::slice::from_ref(&found.output), std::slice::from_ref(&exact.output));
    named("moment", &found.moments, &exact.moments);
    named("sensitivity", &found.sensitivities, &exact.sensitivities);
}

fn all_bits(found: &Found<f32>) -> Vec<Vec<u32>> {
    let outputs = std::slice::from_ref(&found.output);
    [outputs, &found.moments, &found.sensitivities].concat().iter().map(|values| bits(values)).collect()
}

/// Chunks of sequences of these lengths.
fn chunks(block: &Block, lengths: &[&[usize]]) -> Vec<(Vec<f32>, Vec<usize>)> {
    let chunk = |(seed, lengths): (usize, &&[usize])| {
        (block.hidden(seed as u64, lengths.iter().sum()), lengths.to_vec())
    };
    lengths.iter().enumerate().map(chunk).collect()
}

#[test]
fn blocks_of_many_shapes_equal_the_oracles_over_chunks_of_sequences() {
    let blocks = [
        block(6, 2, 16, 48, 72),
        block(4, 4, 6, 65, 130),
        block(3, 1, 64, 64, 64),
        block(2, 1, 130, 30, 100),
        block(1, 1, 2, 1, 1),
    ];
    for (index, block) in blocks.iter().enumerate() {
        let chunks = chunks(block, &[&[70, 1, 9, 129], &[1], &[64, 64], &[64, 64]]);
        let mut calibrator = block.calibrator(209, |_| {});
        let found = block.calibrate(&mut calibrator, &chunks);
        assert_close(&found, &block.exact(&chunks), &format!("block {index}"));
        // A second calibration starts from zero, and repeats to the bit.
        assert_eq!(all_bits(&block.calibrate(&mut calibrator, &chunks)), all_bits(&found));
    }
}

#[test]
fn small_buffers_and_small_pieces_change_no_bit() {
    let block = block(6, 2, 16, 200, 300);
    let chunks = chunks(&block, &[&[100, 30, 70], &[50]]);
    let mut whole = block.calibrator(200, |_| {});
    let found = block.calibrate(&mut whole, &chunks);
    assert_close(&found, &block.exact(&chunks), "whole");
    assert_eq!(whole.begin(&chunks[0].0, &chunks[0].1).unwrap(), 1);
    // Matrices in parts of 64 rows, and one row of tiles in a piece.
    let mut split = block.calibrator(200, |limits| {
        limits.buffer_bytes = 4 * 64 * 300;
        limits.piece_products = 1 << 20;
    });
    assert_eq!(all_bits(&block.calibrate(&mut split, &chunks)), all_bits(&found));
    assert!(split.begin(&chunks[0].0, &chunks[0].1).unwrap() > 50);
    assert_eq!(whole.memory().sums, split.memory().sums);
}

#[test]
fn a_long_sequence_passes_through_the_linears_in_slices() {
    let block = block(2, 1, 16, 40, 60);
    let chunks = chunks(&block, &[&[600], &[300, 300]]);
    let mut whole = block.calibrator(600, |_| {});
    let mut sliced = block.calibrator(600, |limits| limits.slice_tokens = 256);
    let (found, in_slices) = (block.calibrate(&mut whole, &chunks), block.calibrate(&mut sliced, &chunks));
    assert_eq!(bits(&in_slices.output), bits(&found.output));
    assert_close(&in_slices, &block.exact(&chunks), "slices");
    assert!(sliced.memory().activations < whole.memory().activations);
}

#[test]
fn scores_whose_exponentials_overflow_are_weighed() {
    let mut block = block(6, 2, 16, 48, 72);
    block.linears[0].iter_mut().for_each(|weight| *weight *= 400.0);
    let chunks = chunks(&block, &[&[150]]);
    let mut calibrator = block.calibrator(150, |_| {});
    // A score of a thousand is rounded to some 10⁻⁴.
    assert!(error(&block.calibrate(&mut calibrator, &chunks).output, &block.exact(&chunks).output) < 1e-3);
}

#[test]
fn sequences_do_not_depend_on_those_beside_them() {
    let block = block(6, 2, 16, 48, 72);
    let mut calibrator = block.calibrator(200, |_| {});
    let hidden = block.hidden(7, 190);
    let together = run(&mut calibrator, &hidden, &[100, 3, 87]);
    let mut alone = Vec::new();
    for (first, length) in [(0, 100), (100, 3), (103, 87)] {
        alone.extend(run(&mut calibrator, &hidden[48 * first..48 * (first + length)], &[length]));
    }
    assert_eq!(bits(&together), bits(&alone));
}

#[test]
fn values_that_are_not_finite_show_in_the_tokens_that_see_them_and_in_the_moments_of_their_inputs() {
    let block = block(6, 2, 16, 48, 72);
    let mut calibrator = block.calibrator(200, |limits| limits.slice_tokens = 64);
    let hidden = block.hidden(7, 190);
    let expected = run(&mut calibrator, &hidden, &[100, 90]);
    let row = |values: &[f32], token: usize| values[48 * token..48 * (token + 1)].to_vec();
    // In the first and a later slice, and at the end.
    for (token, value, end) in [(29, f32::NAN, 100), (99, f32::INFINITY, 100), (189, f32::NAN, 190)] {
        let mut damaged = hidden.clone();
        damaged[48 * token + 5] = value;
        calibrator.clear().unwrap();
        let found = run(&mut calibrator, &damaged, &[100, 90]);
        for other in 0..190 {
            if (token..end).contains(&other) {
                assert!(row(&found, other).iter().any(|value| !value.is_finite()), "token {other}");
            } else {
                assert_eq!(bits(&row(&found, other)), bits(&row(&expected, other)), "token {other}");
            }
        }
        for (input, size) in block.sizes().into_iter().enumerate() {
            assert!(calibrator.read_moment(input, 0..size).unwrap().iter().all(|value| value.is_nan()));
        }
    }
    // The product of gate and up overflows: the inputs before it are finite.
    let mut huge =
        Block { config: block.config.clone(), linears: block.linears.clone(), norms: block.norms.clone() };
    (4..6).for_each(|linear| huge.linears[linear].iter_mut().for_each(|weight| *weight *= 1e25));
    huge.write(&mut calibrator);
    calibrator.clear().unwrap();
    run(&mut calibrator, &hidden, &[100, 90]);
    let finite = |input: usize| calibrator.read_moment(input, 0..1).unwrap()[0].is_finite();
    assert_eq!([0, 1, 2, 3].map(finite), [true, true, true, false]);
    // Cleared, it is forgotten.
    block.write(&mut calibrator);
    calibrator.clear().unwrap();
    run(&mut calibrator, &hidden, &[100, 90]);
    assert!(calibrator.read_moment(3, 0..72).unwrap().iter().all(|value| value.is_finite()));
}

#[test]
fn arguments_that_do_not_fit_too_small_buffers_and_a_lost_device_are_faults() {
    let block = block(2, 1, 16, 40, 60);
    let mut calibrator = block.calibrator(20, |_| {});
    let reason = |fault: Fault| match fault {
        Fault::Invalid(reason) => reason,
        Fault::Device(fault) => panic!("{fault}"),
    };
    assert!(reason(calibrator.write_linear(7, 0, &[0.0]).unwrap_err()).contains("no linear 7"));
    assert!(reason(calibrator.write_linear(0, 0, &[0.0; 41]).unwrap_err()).contains("41 values"));
    assert!(reason(calibrator.write_linear(0, 32, &[0.0; 40]).unwrap_err()).contains("32 rows"));
    assert!(reason(calibrator.write_norm(2, &[0.0; 40]).unwrap_err()).contains("no norm 2"));
    assert!(reason(calibrator.write_norm(0, &[0.0; 39]).unwrap_err()).contains("39 values"));
    for lengths in [&[][..], &[0], &[21]] {
        assert!(reason(calibrator.begin(&[0.0; 40], lengths).unwrap_err()).contains("1 to 20 tokens"));
    }
    assert!(reason(calibrator.begin(&[0.0; 40], &[2]).unwrap_err()).contains("2 tokens"));
    assert!(reason(calibrator.begin(&[0.0; 40 * 21], &[20, 1]).unwrap_err()).contains("20 at most"));
    assert!(reason(calibrator.run(0).unwrap_err()).contains("not the next one"));
    assert_eq!(calibrator.begin(&[1.0; 40], &[1]).unwrap(), 1);
    assert!(reason(calibrator.run(1).unwrap_err()).contains("not the next one"));
    calibrator.run(0).unwrap();
    for piece in [0, 1] {
        assert!(reason(calibrator.run(piece).unwrap_err()).contains("not the next one"));
    }
    assert!(reason(calibrator.read_moment(4, 0..1).unwrap_err()).contains("no input 4"));
    assert!(reason(calibrator.read_moment(0, 1..1).unwrap_err()).contains("40 rows"));
    assert!(reason(calibrator.read_moment(0, 39..41).unwrap_err()).contains("40 rows"));
    assert!(reason(calibrator.read_sensitivity(7, 0..1).unwrap_err()).contains("no sensitivity 7"));
    let new = |config: &ModelConfig, change: &dyn Fn(&mut Limits)| {
        let gpu = open();
        let mut limits = Limits::new(&gpu, config);
        change(&mut limits);
        Calibrator::new(gpu, config.clone(), block.options(20), limits).err().unwrap()
    };
    match new(&block.config, &|limits| limits.buffer_bytes = 4 * 63 * 60) {
        Fault::Device(DeviceFault::OutOfMemory(what)) => assert!(what.contains("60 columns"), "{what}"),
        other => panic!("{other:?}"),
    }
    let wide = ModelConfig { head_dim: 258, rope: vec![1.0; 129], ..block.config.clone() };
    assert!(matches!(new(&wide, &|_| {}), Fault::Device(DeviceFault::Unavailable(_))));
    let odd = ModelConfig { heads: 3, kv_heads: 2, ..block.config.clone() };
    assert!(matches!(new(&odd, &|_| {}), Fault::Invalid(_)));
    let lost = |fault: Option<Fault>| {
        assert!(matches!(fault, Some(Fault::Device(DeviceFault::Lost(_)))), "{fault:?}");
    };
    calibrator.begin(&[1.0; 40], &[1]).unwrap();
    calibrator.gpu().lose();
    lost(calibrator.run(0).err());
    lost(calibrator.begin(&[1.0; 40], &[1]).err());
    lost(calibrator.clear().err());
    lost(calibrator.write_norm(0, &[0.0; 40]).err());
    lost(calibrator.read_stream(0..1).err());
    lost(calibrator.read_moment(0, 0..1).err());
}
