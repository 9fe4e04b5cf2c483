//! Random shapes, masks, weights and places: inputs that do not fit are rejected by an error, never a panic, and the
//! results of inputs that fit are right. Each test runs for `COPAL_FUZZ_SECONDS`, half a second by default. A failure
//! prints its seed.
#![cfg(not(miri))]

use crate::support::{Random, encoded, formats, multiply, oracle};
use copal_native::cpu::Implementation;
use copal_native::engine::{
    LinearPlace, MaskedPlace, ModelConfig, SetForm, SharedPlaces, WeightLibrary, WeightPlaces,
};
use copal_native::kernels::Encoding;
use copal_native::storage::{Counted, Form, KeptRule, Mask, PackError, pack};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls `case` with one seed after another until the time is over.
fn fuzz(name: &str, mut case: impl FnMut(&mut Random)) {
    let seconds = std::env::var("COPAL_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.5);
    let start = Instant::now();
    let mut seed = 1;
    while seed < 20 || start.elapsed() < Duration::from_secs_f64(seconds) {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&mut Random::new(seed))));
        assert!(caught.is_ok(), "{name}: seed {seed} fails");
        seed += 1;
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    (random.uniform() * bound as f64) as usize
}

fn one_of<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[below(random, choices.len())]
}

#[test]
fn any_bytes_are_a_mask_or_rejected() {
    fuzz("masks", |random| {
        let (rows, cols) = (below(random, 20), below(random, 80));
        let stride = cols.div_ceil(8);
        let length = if random.uniform() < 0.7 { rows * stride } else { below(random, 200) };
        let bytes: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
        let beyond = |row: usize| cols % 8 != 0 && bytes[(row + 1) * stride - 1] >> (cols % 8) != 0;
        let fits = length == rows * stride && !(0..rows).any(beyond);
        assert_eq!(Mask::new(&bytes, rows, cols).is_ok(), fits, "{rows} x {cols}, {length} bytes");
    });
}

#[test]
fn any_weights_are_packed_and_multiplied_right_or_rejected() {
    let formats = formats();
    let kernels = Implementation::supported();
    fuzz("packing", |random| {
        let (rows, cols) = (1 + below(random, 70), 1 + below(random, 210));
        let format = one_of(random, &formats);
        let mut weights = random.normals(rows * cols, 0.1);
        let odd = one_of(random, &[None, None, None, Some(f32::NAN), Some(f32::INFINITY), Some(f32::MAX)]);
        if let Some(odd) = odd {
            weights[below(random, rows * cols)] = odd;
        }
        let density = one_of(random, &[0.0, 0.02, 0.5, 0.98, 1.0]);
        let mask = crate::support::mask_of(rows, cols, |_, _| random.uniform() < density);
        let mask = (random.uniform() < 0.8).then_some(mask);
        let matrix = match pack(&weights, (rows, cols), mask.as_deref(), format) {
            Ok(matrix) => matrix,
            Err(PackError::Weight { value, .. }) => {
                assert!(odd.is_some_and(|odd| odd.to_bits() == value.to_bits()), "{value} is rejected");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        // A weight that is not finite is rejected, kept or not.
        assert!(odd.is_none_or(f32::is_finite));
        if odd.is_some() {
            return;
        }
        let kernel = one_of(random, &kernels);
        let tokens = 1 + below(random, 9);
        let inputs = random.normals(tokens * cols, 1.0);
        let found = multiply(kernel, 1 + below(random, 3), &matrix, &inputs);
        let expected = oracle(&matrix.unpack(), cols, &encoded(Encoding::of(format), cols, &inputs));
        // The oracle has the order of the outputs: token by token.
        for (found, (sum, size)) in found.iter().zip(expected) {
            let error = (f64::from(*found) - sum).abs();
            assert!(error <= 1e-5 * size + 1e-6, "{}, {format:?}: {found} for {sum}", kernel.name());
        }
    });
}

#[test]
fn any_places_in_any_files_are_loaded_or_rejected() {
    let dir = std::env::temp_dir().join(format!("copal-fuzz-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let (master, mask) = (dir.join("master"), dir.join("mask"));
    let mut loaded = 0;
    fuzz("places", |random| {
        let config = ModelConfig {
            hidden: 8,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            intermediate: 6,
            vocab: 11,
            context: 32,
            eps: 1e-5,
            rope: vec![1.0, 0.1],
        };
        // Random bits seldom fit random rules, so some cases keep no weight, in files that are long enough.
        let fits = random.uniform() < 0.3;
        let kept = if fits { 0.0 } else { random.uniform() };
        let dense: Vec<u8> = random.normals(900, 0.1).iter().flat_map(|value| value.to_le_bytes()).collect();
        let length = if fits || random.uniform() < 0.5 { dense.len() } else { below(random, dense.len()) };
        fs::write(&master, &dense[..length]).unwrap();
        let bits: Vec<u8> = (0..if fits { 600 } else { below(random, 300) })
            .map(|_| if random.uniform() < kept { 0x3f } else { 0 })
            .collect();
        fs::write(&mask, bits).unwrap();
        let wild = !fits && random.uniform() < 0.3;
        let place = |random: &mut Random, bound: usize| match wild && random.uniform() < 0.2 {
            true => one_of(random, &[usize::MAX, usize::MAX / 2, 1 << 53, bound * 4 - 3, 1]),
            false => below(random, bound / 2) * 4,
        };
        let masked = |random: &mut Random| MaskedPlace {
            bits: place(random, 200),
            rule: KeptRule {
                of: one_of(
                    random,
                    &[Counted::Row, Counted::Matrix, Counted::Columns(2), Counted::Columns(3)],
                ),
                kept: if fits { 0 } else { one_of(random, &[0, 2, 6, usize::MAX]) },
            },
            values: (random.uniform() < 0.3)
                .then(|| (place(random, 200), if fits { 0 } else { one_of(random, &[0, 48, usize::MAX]) })),
        };
        let linears = (0..7).map(|_| LinearPlace {
            dense: place(random, 800),
            masked: (random.uniform() < 0.6).then(|| masked(random)),
        });
        let linears = linears.collect();
        let shared = SharedPlaces {
            embedding: place(random, 800),
            head: place(random, 800),
            final_norm: place(random, 800),
            norms: vec![(place(random, 800), place(random, 800))],
        };
        let with_mask = fits || random.uniform() < 0.9;
        let places = WeightPlaces {
            master: master.clone(),
            mask: with_mask.then(|| mask.clone()),
            shared,
            linears,
            cancelled: Arc::default(),
        };
        let (linears, head) = (one_of(random, &formats()), one_of(random, &formats()));
        let form = one_of(
            random,
            &[SetForm::One(Form::Packed), SetForm::One(Form::Dense), SetForm::Both { dense_from: 2 }],
        );
        match WeightLibrary::new(config, linears, head, Arc::default()).load(
            &places,
            form,
            1 + below(random, 2),
        ) {
            Ok(_) => loaded += 1,
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
    fs::remove_dir_all(&dir).unwrap();
    assert!(loaded > 0, "no case fits");
}
