use super::{Device, assert_close, config, to_floats, to_words};
use crate::device::kernel::ATTENTION_SPAN;
use crate::device::{Buffer, Command, Gpu};
use crate::support::native::Random;
use copal_native::engine::ModelConfig;
use half::f16;

/// Keys and values as pages hold them, of one sequence, and its page table.
struct Cache {
    keys: Vec<u32>,
    values: Vec<u32>,
    table: Vec<u32>,
}

/// A cache of `length` positions, on pages in a shuffled order. `at(position, head, dim)` gives keys and values.
fn cache(config: &ModelConfig, length: usize, at: impl Fn(usize, usize, usize) -> (f32, f32)) -> Cache {
    let (half, kv_heads) = (config.head_dim / 2, config.kv_heads);
    let pages = length.div_ceil(16);
    let table: Vec<u32> = (0..pages).map(|page| ((page * 7 + 3) % (pages * 8)) as u32).collect();
    let words = pages * 8 * kv_heads * half * 16;
    // Unused slots are NaN: nothing may read them.
    let (mut keys, mut values) = (vec![0x7e00_7e00; words], vec![0x7e00_7e00; words]);
    let pair = |low: f32, high: f32| {
        u32::from(f16::from_f32(low).to_bits()) | u32::from(f16::from_f32(high).to_bits()) << 16
    };
    for position in 0..length {
        let (page, slot) = (table[position / 16] as usize, position % 16);
        for head in 0..kv_heads {
            for word in 0..half {
                let (low, high) = (at(position, head, 2 * word), at(position, head, 2 * word + 1));
                keys[((page * kv_heads + head) * half + word) * 16 + slot] = pair(low.0, high.0);
                values[((page * kv_heads + head) * 16 + slot) * half + word] = pair(low.1, high.1);
            }
        }
    }
    Cache { keys, values, table }
}

/// The attention of one token at each of some positions, `[rows, heads, head_dim]`: by rows, and the same bits by spans.
fn attend(device: &Device, cache: &Cache, positions: &[u32], queries: &[f32]) -> Vec<f32> {
    let config = &device.config;
    let ModelConfig { heads, head_dim, .. } = *config;
    let (rows, width) = (positions.len(), heads * head_dim);
    let [queries, keys, values] =
        [&to_words(queries), &cache.keys, &cache.values].map(|words| device.words(words));
    let nan = |count: usize| device.floats(&vec![f32::NAN; count]);
    let (by_rows, by_spans) = (nan(rows * width), nan(rows * width));
    let counts: Vec<u32> = positions.iter().map(|position| position / ATTENTION_SPAN as u32 + 1).collect();
    let before: Vec<u32> = (0..=rows).map(|row| counts[..row].iter().sum()).collect();
    let rows_of_spans = counts.iter().zip(0..).flat_map(|(&count, row)| vec![row; count as usize]);
    let spans = before[rows];
    let stored = nan(spans as usize * heads * (head_dim + 2));
    let places = vec![2 * rows as u32; rows];
    let picks = 2 * rows + cache.table.len();
    let data = [positions, &places, &cache.table, &before, &rows_of_spans.collect::<Vec<_>>()].concat();
    let step = device.step([rows as u32, 0, 0, rows as u32, 0, picks as u32, 0, 0], &data);
    // On CUDA a group may run several spans.
    let groups = match &device.gpu {
        Gpu::Cuda(_) => spans.div_ceil(2),
        Gpu::Portable(_) => device.gpu.span_groups(heads, spans),
    };
    let kernels = &device.kernels;
    let bind = |kernel, buffers: &[&Buffer]| device.gpu.bind(kernel, buffers).unwrap();
    let commands = [
        (&kernels.attention, &bind(&kernels.attention, &[&queries, &keys, &values, &by_rows]), rows as u32),
        (
            &kernels.attention_spans,
            &bind(&kernels.attention_spans, &[&queries, &keys, &values, &stored]),
            groups,
        ),
        (&kernels.attention_join, &bind(&kernels.attention_join, &[&stored, &by_spans]), rows as u32),
    ];
    let commands = commands.map(|(kernel, bound, groups)| Command::Run {
        kernel,
        call: step.call(),
        bound,
        groups: (heads as u32, groups),
    });
    let found = device.finish(&step, commands.to_vec(), (&by_rows, rows * width));
    assert_eq!(device.read(&by_spans, rows * width), found, "spans have the same bits");
    to_floats(&found)
}

/// Attention in double precision of a query to keys and values, `[head_dim]`.
fn expected(query: &[f32], positions: usize, at: impl Fn(usize, usize) -> (f32, f32)) -> Vec<f64> {
    let dims = 0..query.len();
    let score = |position: usize| -> f64 {
        dims.clone().map(|dim| f64::from(query[dim]) * f64::from(at(position, dim).0)).sum()
    };
    let scores: Vec<f64> = (0..positions).map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let weighted = |dim: usize| -> f64 {
        weights.iter().enumerate().map(|(position, weight)| weight * f64::from(at(position, dim).1)).sum()
    };
    dims.clone().map(|dim| weighted(dim) / total).collect()
}

#[test]
fn attention_equals_the_oracles_over_shuffled_pages_and_around_spans() {
    const SPAN: u32 = ATTENTION_SPAN as u32;
    let short = [0, 1, 15, 16, 63, 64, 127, 149];
    let around = [3, SPAN - 2, SPAN - 1, SPAN, SPAN + 1, 2 * SPAN - 1, 2 * SPAN, 2 * SPAN + 70];
    let shapes = [
        ((6, 2, 16), short),
        ((4, 4, 6), short),
        ((4, 1, 64), short),
        ((2, 1, 128), short),
        ((1, 1, 130), around),
        ((2, 1, 16), around),
    ];
    for ((heads, kv_heads, head_dim), positions) in shapes {
        let config = ModelConfig { heads, kv_heads, head_dim, ..config() };
        let device = Device::new(config.clone());
        let mut random = Random::new(head_dim as u64);
        let length = positions[7] as usize + 1;
        let numbers = random.normals(2 * length * kv_heads * head_dim, 1.0);
        let rounded = |index: usize| f16::from_f32(numbers[index]).to_f32();
        let at = |position: usize, head: usize, dim: usize| {
            let index = 2 * ((position * kv_heads + head) * head_dim + dim);
            (rounded(index), rounded(index + 1))
        };
        let cache = cache(&config, length, at);
        let queries = random.normals(positions.len() * heads * head_dim, 0.3);
        let found = attend(&device, &cache, &positions, &queries);
        for (index, (found, query)) in found.chunks(head_dim).zip(queries.chunks(head_dim)).enumerate() {
            let (position, head) = (positions[index / heads] as usize, index % heads / (heads / kv_heads));
            let expected = expected(query, position + 1, |position, dim| at(position, head, dim));
            for (&found, expected) in found.iter().zip(expected) {
                assert_close(found, expected, 4.0, &format!("head {head_dim}, position {position}"));
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_every_token_that_attends_to_it_and_in_no_other() {
    let config = ModelConfig { heads: 3, kv_heads: 1, ..config() };
    let device = Device::new(config.clone());
    // A key that is NaN; one whose scores are ∞ and −∞; a value that is ∞.
    for (at_position, pair) in
        [(20, (f32::NAN, 1.0)), (530, (f32::INFINITY, 1.0)), (530, (0.5, f32::INFINITY))]
    {
        let at =
            |position: usize, _: usize, _: usize| if position == at_position { pair } else { (0.5, 1.0) };
        let cache = cache(&config, 1100, at);
        let positions = [at_position as u32 - 1, at_position as u32, 1099];
        // Scores of the third head are the opposite of those of the others.
        let query = |head: usize| if head == 2 { -0.1 } else { 0.1 };
        let queries: Vec<f32> = (0..9).flat_map(|index| vec![query(index % 3); config.head_dim]).collect();
        let found = attend(&device, &cache, &positions, &queries);
        for (index, head) in found.chunks(config.head_dim).enumerate() {
            let score = query(index % 3) * pair.0;
            let expected = match index / 3 {
                0 => 1.0,
                // It has no weight.
                _ if score == f32::NEG_INFINITY => 1.0,
                _ if score.is_finite() => f32::INFINITY,
                _ => f32::NAN,
            };
            let is_expected = |&value: &f32| {
                if expected.is_finite() {
                    (value - expected).abs() < 1e-5
                } else {
                    value.to_bits() << 1 == expected.to_bits() << 1 || expected.is_nan() && value.is_nan()
                }
            };
            assert!(head.iter().all(is_expected), "{pair:?}, {index}: {head:?} for {expected}");
        }
    }
}

#[test]
fn keys_are_rotated_and_rounded_and_queries_rotated_and_scaled() {
    let config = config();
    let device = Device::new(config.clone());
    let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
    let half = head_dim / 2;
    let mut random = Random::new(9);
    let positions = [0u32, 5, 31];
    let queries = random.normals(3 * heads * head_dim, 1.0);
    let keys = random.normals(3 * kv_heads * head_dim, 1.0);
    let values = random.normals(3 * kv_heads * head_dim, 1.0);
    // Page tables of two pages for each row.
    let tables: Vec<u32> = (0..3).map(|row| 6 + 2 * row).collect();
    let pages = [4, 9, 1, 0, 7, 3];
    let angles: Vec<u32> = positions
        .iter()
        .flat_map(|&position| {
            let angle = move |frequency: &f64| f64::from(position) * frequency;
            let cosines = config.rope.iter().map(move |frequency| angle(frequency).cos());
            cosines.chain(config.rope.iter().map(move |frequency| angle(frequency).sin()))
        })
        .map(|value| (value as f32).to_bits())
        .collect();
    let data = [&positions[..], &tables, &pages, &angles].concat();
    let call = [3, 0, 0, 3, 12, 0, 0, 0];
    let (q, k, v) = (device.floats(&queries), device.floats(&keys), device.floats(&values));
    let words = 10 * kv_heads * half * 16;
    let (key_pages, value_pages) = (device.words(&vec![0; words]), device.words(&vec![0; words]));
    let units = ((heads + 2 * kv_heads) * half) as u32;
    let rotated = to_floats(&device.run(
        call,
        &data,
        (&device.kernels.place, &[&q, &k, &v, &key_pages, &value_pages], (units.div_ceil(64), 3)),
        (&q, queries.len()),
    ));
    let [stored_keys, stored_values] = [&key_pages, &value_pages].map(|pages| device.read(pages, words));
    let rotate = |numbers: &[f32], position: u32, dim: usize| {
        let (pair, sign) = if dim < half { (dim, -1.0) } else { (dim - half, 1.0) };
        let (sine, cosine) = (f64::from(position) * config.rope[pair]).sin_cos();
        let other = numbers[if dim < half { dim + half } else { dim - half }];
        f64::from(numbers[dim]) * cosine + sign * f64::from(other) * sine
    };
    for (index, (found, query)) in rotated.chunks(head_dim).zip(queries.chunks(head_dim)).enumerate() {
        for (dim, &found) in found.iter().enumerate() {
            assert_close(found, rotate(query, positions[index / heads], dim) / 4.0, 1.0, "query");
        }
    }
    let element =
        |words: &[u32], at: usize, dim: usize| f16::from_bits((words[at] >> (dim % 2 * 16)) as u16).to_f64();
    for index in 0..3 * kv_heads {
        let (row, head) = (index / kv_heads, index % kv_heads);
        let position = positions[row];
        let (page, slot) = (pages[2 * row + position as usize / 16] as usize, position as usize % 16);
        let (keys, values) = (&keys[index * head_dim..], &values[index * head_dim..]);
        for (dim, &unrounded) in values[..head_dim].iter().enumerate() {
            let key = ((page * kv_heads + head) * half + dim / 2) * 16 + slot;
            let expected = rotate(&keys[..head_dim], position, dim);
            let found = element(&stored_keys, key, dim);
            assert!((found - expected).abs() < 1e-3 * (1.0 + expected.abs()), "{found} for {expected}");
            let value = ((page * kv_heads + head) * 16 + slot) * half + dim / 2;
            assert_eq!(element(&stored_values, value, dim), f16::from_f32(unrounded).to_f64());
        }
    }
}

#[test]
fn values_are_rounded_as_f16_is_and_kept_in_its_range() {
    let config = ModelConfig { heads: 1, kv_heads: 1, head_dim: 256, rope: vec![0.0; 128], ..config() };
    let device = Device::new(config);
    let mut random = Random::new(10);
    let specials = [
        0.0,
        -0.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        65504.0,
        65519.9,
        65520.0,
        -1e30,
        6.1e-5,
        6.0e-5,
        5.96e-8,
        2.98e-8,
        2.980_232_4e-8,
        2.99e-8,
        1e-30,
        f32::MIN_POSITIVE / 4.0,
        1.0,
        1.000_488_3,
        1.001_464_8,
    ];
    let mut values: Vec<f32> = specials.to_vec();
    // All exponents around those of f16, with random mantissas.
    values.resize_with(16 * 256, || {
        f32::from_bits((random.bits() as u32 & 0x807f_ffff) | (95 + (random.bits() % 50) as u32) << 23)
    });
    let rows = 16u32;
    let positions: Vec<u32> = (0..rows).collect();
    let data = [&positions[..], &[2 * rows; 16], &[0], &[0; 16 * 256]].concat();
    let call = [rows, 0, 0, rows, 2 * rows + 1, 0, 0, 0];
    let zeros = device.floats(&vec![0.0; 16 * 256]);
    let pages = || device.words(&vec![0; 16 * 128]);
    let (key_pages, value_pages) = (pages(), pages());
    let buffers =
        [&device.floats(&vec![0.0; 16 * 256]), &zeros, &device.floats(&values), &key_pages, &value_pages];
    let found =
        device.run(call, &data, (&device.kernels.place, &buffers, (6, rows)), (&value_pages, 16 * 128));
    for (index, &value) in values.iter().enumerate() {
        let bits = (found[index / 2] >> (index % 2 * 16)) as u16;
        let expected = f16::from_f32(if value.is_nan() { value } else { value.clamp(-65504.0, 65504.0) });
        let same = if value.is_nan() { f16::from_bits(bits).is_nan() } else { bits == expected.to_bits() };
        assert!(same, "{value:e}: {bits:x}, expected {expected:?}");
    }
}
