use super::{Device, assert_close, config, to_floats};
use crate::layout::Form;
use crate::matrix::{Linear, Matrix, MatrixError, Meter, Ports};
use crate::support::native::{Random, lopsided, mask_of, masks, oracle};
use crate::support::stored::stored;
use copal_native::storage::{Format, PackError, Precision, pack};
use std::sync::Arc;

/// Numbers of tokens: each tile alone, with tails, and several tiles.
const TOKENS: [usize; 8] = [1, 2, 4, 5, 16, 17, 33, 70];

fn load(device: &Device, weights: &[f32], cols: usize, bits: Option<&[u8]>, form: Form) -> Arc<Matrix> {
    let shape = (weights.len() / cols, cols);
    let meter = Meter::default();
    Arc::new(Matrix::load((&device.gpu, &meter), &mut &*weights, shape, bits, form).unwrap())
}

/// Multiplies inputs `[tokens, cols]`, and adds to `outputs` if there are any.
fn multiply(
    device: &Device,
    matrix: &Arc<Matrix>,
    cols: usize,
    inputs: &[f32],
    outputs: Option<&[f32]>,
) -> Vec<f32> {
    let (tokens, rows) = (inputs.len() / cols, matrix.rows());
    // NaN shows an output that is never written.
    let unwritten = vec![f32::NAN; tokens * rows];
    let y = device.floats(outputs.unwrap_or(&unwritten));
    let ports = Ports { inputs: &device.floats(inputs), outputs: &y, add: outputs.is_some() };
    let linear = Linear::new((&device.gpu, &device.kernels), Arc::clone(matrix), ports).unwrap();
    let call = [tokens as u32, 0, 0, 0, 0, 0, 0, 0];
    let step = device.step(call, &[]);
    let commands = linear.commands(&device.kernels, step.call(), tokens as u32).collect();
    to_floats(&device.finish(&step, commands, (&y, tokens * rows)))
}

fn check(device: &Device, shape: (usize, usize), bits: Option<&[u8]>, form: Form, what: &str) {
    check_sized(1.0, device, shape, bits, form, what);
}

/// Checks weights of the deviation `size`, with inputs that make up for it.
fn check_sized(
    size: f32,
    device: &Device,
    (rows, cols): (usize, usize),
    bits: Option<&[u8]>,
    form: Form,
    what: &str,
) {
    let mut random = Random::new(7 + rows as u64 * 1000 + cols as u64);
    let weights = random.normals(rows * cols, size);
    let matrix = load(device, &weights, cols, bits, form);
    let seen = stored(&weights, cols, bits, form);
    let inputs = random.normals(70 * cols, 1.0 / size);
    let exact: Vec<f64> = inputs.iter().map(|&input| f64::from(input)).collect();
    let expected = oracle(&seen, cols, &exact);
    let mut alone: Vec<Vec<u32>> = Vec::new();
    for tokens in TOKENS {
        let found = multiply(device, &matrix, cols, &inputs[..tokens * cols], None);
        let checked = format!("{what}, {form:?}, {rows}x{cols}, {tokens} tokens");
        assert_eq!(found.len(), tokens * rows, "{checked}");
        for (found, &(expected, size)) in found.iter().zip(&expected) {
            assert_close(*found, expected, size, &checked);
        }
        // A token has the same bits in every tile.
        for (token, found) in found.chunks(rows).enumerate() {
            let bits: Vec<u32> = found.iter().map(|value| value.to_bits()).collect();
            match alone.get(token) {
                Some(expected) => assert_eq!(&bits, expected, "{what}, {form:?}, token {token} of {tokens}"),
                None => alone.push(bits),
            }
        }
    }
}

#[test]
fn products_equal_the_oracles_for_every_form_mask_tail_and_tile() {
    let device = Device::with_products(config(), &Form::ALL);
    for (rows, cols) in [(1, 1), (33, 70), (64, 128), (95, 577)] {
        for form in [Form::Bf16, Form::Int8, Form::Int4] {
            check(&device, (rows, cols), None, form, "dense");
        }
        for (name, bits) in masks(rows, cols, &mut Random::new(3)) {
            for form in [Form::Sparse, Form::SparseInt4] {
                check(&device, (rows, cols), Some(&bits), form, name);
            }
        }
        for form in [Form::Int8, Form::Int4] {
            let bits = mask_of(rows, cols, |row, col| (row + col) % 3 != 0);
            check(&device, (rows, cols), Some(&bits), form, "pruned");
        }
    }
}

#[test]
fn the_largest_of_small_weights_are_not_clipped() {
    let device = Device::with_products(config(), &Form::ALL);
    let bits = mask_of(33, 70, |row, col| (row + col) % 3 != 0);
    for (size, form) in [(1e-5, Form::Int8), (1e-6, Form::Int4)] {
        for bits in [None, Some(&bits[..])] {
            check_sized(size, &device, (33, 70), bits, form, "small");
        }
    }
    check_sized(1e-6, &device, (33, 70), Some(&bits), Form::SparseInt4, "small");
}

#[test]
fn a_group_may_begin_in_the_middle_of_a_word() {
    let device = Device::with_products(config(), &Form::ALL);
    // One value in the first group, so that all others begin at odd ones.
    let bits = mask_of(32, 200, |row, col| (row, col) == (5, 9) || col >= 64 && (row + col) % 2 == 0);
    check(&device, (32, 200), Some(&bits), Form::Sparse, "odd starts");
    check(&device, (32, 200), Some(&bits), Form::SparseInt4, "odd starts");
}

#[test]
fn more_values_than_shared_memory_holds_are_multiplied() {
    let device = Device::with_products(config(), &Form::ALL);
    let (rows, cols) = (33, 3000);
    let mut random = Random::new(9);
    let weights = random.normals(rows * cols, 1.0);
    let inputs = random.normals(9 * cols, 1.0);
    let exact: Vec<f64> = inputs.iter().map(|&input| f64::from(input)).collect();
    let masks = masks(rows, cols, &mut random);
    for (name, bits) in masks.iter().filter(|(name, _)| ["half", "everything", "unequal rows"].contains(name))
    {
        for form in [Form::Sparse, Form::SparseInt4] {
            let matrix = load(&device, &weights, cols, Some(bits), form);
            let expected = oracle(&stored(&weights, cols, Some(bits), form), cols, &exact);
            for tokens in [1, 9] {
                let found = multiply(&device, &matrix, cols, &inputs[..tokens * cols], None);
                for (found, &(expected, size)) in found.iter().zip(&expected) {
                    assert_close(*found, expected, size, &format!("{name}, {form:?}, {tokens} tokens"));
                }
            }
        }
    }
}

#[test]
fn products_can_be_added_and_repeat_to_the_bit() {
    let device = Device::with_products(config(), &Form::ALL);
    let mut random = Random::new(5);
    let (rows, cols) = (70, 96);
    let weights = random.normals(rows * cols, 1.0);
    let (inputs, outputs) = (random.normals(5 * cols, 1.0), random.normals(5 * rows, 1.0));
    let matrix = load(&device, &weights, cols, None, Form::Bf16);
    let plain = multiply(&device, &matrix, cols, &inputs, None);
    let added = multiply(&device, &matrix, cols, &inputs, Some(&outputs));
    for ((added, plain), output) in added.iter().zip(&plain).zip(&outputs) {
        assert_eq!(added.to_bits(), (plain + output).to_bits());
    }
    for _ in 0..3 {
        let again = multiply(&device, &matrix, cols, &inputs, None);
        assert!(again.iter().map(|value| value.to_bits()).eq(plain.iter().map(|value| value.to_bits())));
    }
}

#[test]
fn inputs_that_are_not_finite_reach_the_rows_that_keep_their_column_alone() {
    let device = Device::with_products(config(), &Form::ALL);
    let (rows, cols) = (40, 130);
    let weights = Random::new(6).normals(rows * cols, 1.0);
    let bits = mask_of(rows, cols, |row, col| (row + col) % 2 == 0);
    for form in [Form::Sparse, Form::SparseInt4] {
        let matrix = load(&device, &weights, cols, Some(&bits), form);
        let seen = stored(&weights, cols, Some(&bits), form);
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for tokens in [1, 3, 6] {
                let mut inputs = vec![1.0; tokens * cols];
                inputs[129] = special;
                let found = multiply(&device, &matrix, cols, &inputs, None);
                for (at, value) in found.iter().enumerate() {
                    let what = format!("{form:?}, row {at} of {tokens} tokens is {value} for {special}");
                    let is_hit = at < rows && at % 2 == 1;
                    assert_eq!(value.is_finite(), !is_hit, "{what}");
                    // 0 · ∞ is NaN.
                    let is_nan = special.is_nan() || is_hit && seen[at * cols + 129] == 0.0;
                    assert!(!is_hit || value.is_nan() == is_nan, "{what}");
                }
            }
        }
    }
}

#[test]
fn weights_that_a_form_cannot_hold_are_rejected_by_row_and_column() {
    let device = Device::with_products(config(), &Form::ALL);
    for (form, value) in [
        (Form::Bf16, f32::NAN),
        (Form::Sparse, f32::INFINITY),
        (Form::Int8, f32::NAN),
        (Form::Int8, 1e9),
        (Form::Int4, -1e9),
        (Form::SparseInt4, -1e9),
        (Form::Bf16, 3.4e38),
    ] {
        let mut weights = vec![1.0; 40 * 70];
        weights[35 * 70 + 66] = value;
        let bits = mask_of(40, 70, |_, _| true);
        let is_sparse = matches!(form, Form::Sparse | Form::SparseInt4);
        let bits = is_sparse.then_some(&bits[..]);
        let meter = Meter::default();
        let loaded = Matrix::load((&device.gpu, &meter), &mut &*weights, (40, 70), bits, form);
        match loaded.err() {
            Some(MatrixError::Pack(PackError::Weight { row: 35, col: 66, .. })) => {}
            other => panic!("{form:?}: {other:?}"),
        }
    }
}

#[test]
fn sparse_int4_has_the_weights_of_the_processor() {
    let format = Format::usual(Precision::Int4);
    let mut random = Random::new(8);
    for (rows, cols) in [(33, 70), (95, 577)] {
        // Weights of all sizes, on one side of 0 and around it.
        for weights in [random.normals(rows * cols, 1.0), lopsided(rows, cols, &mut random)] {
            for (name, bits) in masks(rows, cols, &mut random) {
                let processor = pack(&weights, (rows, cols), Some(&bits), format).unwrap().unpack();
                let own = stored(&weights, cols, Some(&bits), Form::SparseInt4);
                assert_eq!(own, processor, "{name}, {rows}x{cols}");
            }
        }
    }
}
