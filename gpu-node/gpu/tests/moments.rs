//! Second moments against those in double precision.

use crate::support::bits;
use crate::support::random::Random;
use copal_gpu::fault::DeviceFault;
use copal_gpu::moments::{Fault, MomentSums};

fn open() -> MomentSums {
    MomentSums::open(None).expect("tests need a device; Debian's mesa-vulkan-drivers has one")
}

/// Correlated inputs, `[tokens, cols]`, of which one in five columns is large.
fn inputs(seed: u64, tokens: usize, cols: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    let common = random.normals(tokens, 1.0);
    let mut inputs = random.normals(tokens * cols, 0.7);
    for (index, input) in inputs.iter_mut().enumerate() {
        *input = (*input + common[index / cols]) * if (index % cols).is_multiple_of(5) { 30.0 } else { 1.0 };
    }
    inputs
}

/// Adds chunks to a sum.
fn add(sums: &mut MomentSums, sum: usize, chunk: &[f32]) -> usize {
    let pieces = sums.upload(sum, chunk).unwrap();
    (0..pieces).for_each(|piece| sums.add(piece).unwrap());
    pieces
}

fn rows_of(sums: &MomentSums, sum: usize, cols: usize, rows: usize) -> Vec<f32> {
    let read = |first: usize| sums.read(sum, first..(first + rows).min(cols)).unwrap();
    (0..cols).step_by(rows).flat_map(read).collect()
}

#[test]
fn sums_over_chunks_equal_the_oracles_in_buffers_of_any_size() {
    let cols = [1, 63, 64, 65, 130, 300];
    let chunks: Vec<Vec<_>> = cols
        .iter()
        .map(|&cols| [700, 1, 17].map(|tokens| inputs(tokens as u64, tokens, cols)).to_vec())
        .collect();
    let mut sums = open();
    // One row of tiles of the widest sum in a buffer.
    let mut split = open().with_buffer_bytes(4 * 300 * 100);
    for sums in [&mut sums, &mut split] {
        // The second call starts from zero.
        for seed in [1, 2] {
            sums.begin(&cols).unwrap();
            add(sums, 3, &inputs(seed, 5, 65));
        }
        sums.begin(&cols).unwrap();
        for chunk in 0..3 {
            for (sum, chunks) in chunks.iter().enumerate() {
                add(sums, sum, &chunks[chunk]);
            }
        }
    }
    for (sum, &cols) in cols.iter().enumerate() {
        let found = rows_of(&sums, sum, cols, cols);
        assert_eq!(found.len(), cols * (cols + 1) / 2);
        let tokens: Vec<f64> = chunks[sum].concat().iter().map(|&x| f64::from(x)).collect();
        let mut at = 0;
        for a in 0..cols {
            for b in a..cols {
                let terms = tokens.chunks(cols).map(|x| x[a] * x[b]);
                let (exact, size) =
                    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                let found = f64::from(found[at]);
                assert!((found - exact).abs() <= 1e-6 * size, "{cols}: {found} for {exact} at {a}, {b}");
                at += 1;
            }
        }
        for rows in [1, 7, cols] {
            assert_eq!(bits(&rows_of(&split, sum, cols, rows)), bits(&found), "{cols}, {rows} rows");
        }
    }
}

#[test]
fn a_long_sum_loses_no_more_than_the_processors() {
    let (cols, chunks) = (3, 200);
    let mut sums = open();
    sums.begin(&[cols]).unwrap();
    let mut exact = vec![0.0; cols];
    for chunk in 0..chunks {
        let inputs: Vec<f32> = inputs(chunk, 64, cols).iter().map(|x| x + 100.0).collect();
        for x in inputs.chunks(cols) {
            exact.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
        add(&mut sums, 0, &inputs);
    }
    let found = sums.read(0, 0..cols).unwrap();
    for (found, exact) in [found[0], found[3], found[5]].iter().zip(exact) {
        // Half a unit in the last place for each chunk (block-sums.ts), and for the sums of a chunk.
        let bound = (0.5 * chunks as f64 + 8.0) * f64::from(f32::EPSILON);
        assert!((f64::from(*found) / exact - 1.0).abs() < bound, "{found} for {exact}");
    }
}

#[test]
fn much_work_is_done_in_pieces() {
    let mut sums = open();
    sums.begin(&[4096]).unwrap();
    // A little more than the products of a piece.
    assert_eq!(sums.upload(0, &inputs(1, 257, 4096)).unwrap(), 2);
    assert_eq!(sums.upload(0, &inputs(1, 256, 4096)).unwrap(), 1);
}

#[test]
fn values_that_are_not_finite_reach_the_sums_of_their_column() {
    let mut sums = open();
    sums.begin(&[70]).unwrap();
    let mut inputs = inputs(1, 20, 70);
    inputs[3 * 70 + 66] = f32::NAN;
    inputs[5 * 70 + 2] = f32::INFINITY;
    add(&mut sums, 0, &inputs);
    for row in 0..70 {
        let diagonal = sums.read(0, row..row + 1).unwrap()[0];
        assert_eq!(diagonal.is_finite(), row != 66 && row != 2, "{diagonal} at {row}");
    }
}

#[test]
fn arrays_that_do_not_fit_too_small_buffers_and_a_lost_device_are_faults() {
    let mut sums = open();
    let reason = |fault: Fault| match fault {
        Fault::Invalid(reason) => reason,
        Fault::Device(fault) => panic!("{fault}"),
    };
    assert!(reason(sums.begin(&[3, 0]).unwrap_err()).starts_with("cols has 0"));
    assert_eq!(reason(sums.upload(0, &[1.0]).unwrap_err()), "there is no sum 0");
    sums.begin(&[3]).unwrap();
    assert!(reason(sums.upload(0, &[1.0; 4]).unwrap_err()).contains("rows of 3"));
    assert!(reason(sums.upload(0, &[]).unwrap_err()).contains("rows of 3"));
    assert_eq!(reason(sums.add(0).unwrap_err()), "there is no piece 0 to add");
    assert_eq!(add(&mut sums, 0, &[1.0; 3]), 1);
    assert_eq!(reason(sums.add(0).unwrap_err()), "there is no piece 0 to add");
    assert!(reason(sums.read(0, 2..4).unwrap_err()).contains("3 rows"));
    assert!(reason(sums.read(0, 1..1).unwrap_err()).contains("3 rows"));
    match open().with_buffer_bytes(4 * 63 * 300).begin(&[300]).err() {
        Some(Fault::Device(DeviceFault::OutOfMemory(what))) => {
            assert!(what.contains("300 columns"), "{what}")
        }
        other => panic!("{other:?}"),
    }
    sums.gpu().lose();
    for fault in [sums.upload(0, &[1.0; 3]).err(), sums.begin(&[3]).err(), sums.read(0, 0..1).err()] {
        assert!(matches!(fault, Some(Fault::Device(DeviceFault::Lost(_)))), "{fault:?}");
    }
}
