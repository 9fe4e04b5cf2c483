use super::{Device, assert_close, config, to_floats};
use crate::device::kernel::{CANDIDATES, VOCAB_PARTS};
use crate::device::{Command, Gpu};
use crate::support::native::Random;
use copal_native::engine::ModelConfig;

#[test]
fn norms_equal_the_oracles_for_all_rows_and_for_picked_ones() {
    for hidden in [1, 48, 256, 577] {
        let config = ModelConfig { hidden, ..config() };
        let device = Device::new(config.clone());
        let mut random = Random::new(hidden as u64);
        let (x, gamma) = (random.normals(5 * hidden, 2.0), random.normals(hidden, 1.0));
        for picks in [vec![0u32, 1, 2, 3, 4], vec![3, 0]] {
            let is_picked = picks.len() < 5;
            let kernel = if is_picked { &device.kernels.norm_picked } else { &device.kernels.norm };
            let out = device.floats(&vec![f32::NAN; picks.len() * hidden]);
            let buffers = [&device.floats(&x), &device.floats(&gamma), &out];
            let launch = (kernel, &buffers[..], (picks.len() as u32, 1));
            let call = [5, 0, 0, 0, 0, 0, 0, 0];
            let found = to_floats(&device.run(call, &picks, launch, (&out, picks.len() * hidden)));
            for (found, &row) in found.chunks(hidden).zip(&picks) {
                let x = &x[row as usize * hidden..][..hidden];
                let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / hidden as f64;
                let scale = 1.0 / (mean + f64::from(config.eps)).sqrt();
                for ((found, x), gamma) in found.iter().zip(x).zip(&gamma) {
                    let expected = f64::from(*x) * scale * f64::from(*gamma);
                    assert_close(*found, expected, 3.0, "norm");
                }
            }
        }
    }
}

#[test]
fn gates_equal_the_oracles_also_far_from_zero() {
    let device = Device::new(config());
    let width = device.config.intermediate;
    let mut random = Random::new(4);
    let mut gate = random.normals(3 * width, 3.0);
    gate[..6].copy_from_slice(&[-200.0, -90.0, 200.0, 0.0, f32::NAN, f32::INFINITY]);
    let up = random.normals(3 * width, 1.0);
    let buffer = device.floats(&gate);
    let groups = ((width as u32).div_ceil(256), 3);
    let buffers = [&buffer, &device.floats(&up)];
    let launch = (&device.kernels.gate, &buffers[..], groups);
    let found = to_floats(&device.run([3, 0, 0, 0, 0, 0, 0, 0], &[], launch, (&buffer, gate.len())));
    for ((found, &gate), &up) in found.iter().zip(&gate).zip(&up) {
        let gate = f64::from(gate);
        assert_close(*found, gate / (1.0 + (-gate).exp()) * f64::from(up), gate.abs(), "gate");
    }
}

#[test]
fn a_step_that_takes_several_submissions_runs_in_order() {
    let device = Device::new(config());
    // By CUDA a step is not divided, and the driver of the tests would take minutes.
    if matches!(device.gpu, Gpu::Cuda(_)) {
        return;
    }
    let (width, rows) = (device.config.intermediate, 50_000);
    let gate: Vec<f32> = (0..rows * width).map(|index| (index % 5) as f32).collect();
    let (buffer, up) = (device.floats(&gate), device.floats(&vec![2.0; rows * width]));
    let kernel = &device.kernels.gate;
    let bound = device.gpu.bind(kernel, &[&buffer, &up]).unwrap();
    let step = device.step([rows as u32, 0, 0, 0, 0, 0, 0, 0], &[]);
    let run = || Command::Run { kernel, call: step.call(), bound: &bound, groups: (1, rows as u32) };
    let found = to_floats(&device.finish(&step, (0..3).map(|_| run()).collect(), (&buffer, gate.len())));
    let once = |gate: f64| gate / (1.0 + (-gate).exp()) * 2.0;
    let expected: Vec<f64> = (0..5).map(|index| once(once(once(f64::from(index))))).collect();
    for (index, found) in found.iter().enumerate() {
        assert_close(*found, expected[index % 5], expected[index % 5], "gate");
    }
}

/// Scores entries of `[row, target, alternatives, place]`.
fn score(device: &Device, logits: &[f32], entries: &[[u32; 4]], floats: usize) -> Vec<f32> {
    let out = device.floats(&vec![f32::NAN; floats]);
    let buffers = [&device.floats(logits), &out];
    let launch = (&device.kernels.score, &buffers[..], (entries.len() as u32, 1));
    to_floats(&device.run([1, 0, 0, 0, 0, 0, 0, 0], entries.as_flattened(), launch, (&out, floats)))
}

#[test]
fn scores_equal_the_oracles_and_rank_ties_by_token() {
    for vocab in [1, 99, 600] {
        let device = Device::new(ModelConfig { vocab, ..config() });
        // Whole numbers, so that there are ties.
        let logits: Vec<f32> =
            Random::new(8).normals(3 * vocab, 4.0).iter().map(|value| value.round()).collect();
        let alternatives = vocab.min(7);
        let width = 1 + 2 * alternatives;
        let target = (vocab / 2) as u32;
        let entries = [[2, target, alternatives as u32, 1], [0, 0, 0, 0]];
        let found = score(&device, &logits, &entries, 1 + width);
        let nll = |row: usize, token: usize| {
            let logits = &logits[row * vocab..][..vocab];
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            sum.ln() - f64::from(logits[token])
        };
        assert_close(found[0], nll(0, 0), 4.0, "first row");
        assert_close(found[1], nll(2, target as usize), 4.0, "third row");
        let row = &logits[2 * vocab..];
        let mut ranked: Vec<usize> = (0..vocab).collect();
        ranked.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        for (pair, token) in found[2..].chunks(2).zip(ranked) {
            assert_eq!(pair[0], token as f32);
            assert_close(pair[1], nll(2, token), 4.0, "alternative");
        }
    }
}

#[test]
fn a_logit_that_is_nan_makes_the_score_nan() {
    let device = Device::new(config());
    let mut logits = vec![0.5; 2 * 99];
    logits[98] = f32::NAN;
    let found = score(&device, &logits, &[[0, 3, 0, 0], [1, 3, 0, 1]], 2);
    assert!(found[0].is_nan() && found[1].is_finite(), "{found:?}");
}

/// Candidates for entries of `[row, place, temperature, random number]`, as words.
fn candidates(device: &Device, logits: &[f32], entries: &[[u32; 4]], words: usize) -> Vec<u32> {
    adjusted_candidates(device, logits, entries, &[], words).0
}

/// The tokens of a row that are adjusted, each with its bias, factor and deduction.
type Adjusted = Vec<(u32, [f32; 3])>;

/// Candidates, and the logits after the kernel has run. Rows without a list have none.
fn adjusted_candidates(
    device: &Device,
    logits: &[f32],
    entries: &[[u32; 4]],
    lists: &[Adjusted],
    words: usize,
) -> (Vec<u32>, Vec<u32>) {
    let (mut data, mut listed) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let list = lists.get(index).map_or(&[][..], |list| &list[..]);
        let place = 6 * entries.len() + listed.len();
        data.extend(entry.iter().copied().chain([place as u32, list.len() as u32]));
        listed.extend(list.iter().map(|&(token, _)| token));
        (0..3).for_each(|kind| listed.extend(list.iter().map(|(_, numbers)| numbers[kind].to_bits())));
    }
    data.extend(listed);
    let (inputs, out) = (device.floats(logits), device.floats(&vec![f32::NAN; words]));
    let buffers = [&inputs, &out];
    let launch = || (&device.kernels.candidates, &buffers[..], (entries.len() as u32, 1));
    let found = device.run([1, 0, 0, 0, 0, 0, 0, 0], &data, launch(), (&out, words));
    // A second run finds the logits as they were.
    (found, device.run([1, 0, 0, 0, 0, 0, 0, 0], &data, launch(), (&inputs, logits.len())))
}

#[test]
fn adjusted_tokens_are_left_out_and_returned_and_decide_the_part_with_the_others() {
    for vocab in [3, 257, 3000] {
        let device = Device::new(ModelConfig { vocab, ..config() });
        let count = vocab.min(CANDIDATES);
        let normals = Random::new(vocab as u64 + 1).normals(vocab, 3.0);
        let every = |step: usize, numbers: [f32; 3]| -> Adjusted {
            (0..vocab as u32).step_by(step).map(|token| (token, numbers)).collect()
        };
        let penalised = |token: u32| [0.0, 1.3, (token % 4) as f32 * 0.6];
        let best = (0..vocab as u32).max_by(|&a, &b| normals[a as usize].total_cmp(&normals[b as usize]));
        let lists: [Adjusted; 6] = [
            every(3, [0.0; 3]).into_iter().map(|(token, _)| (token, penalised(token))).collect(),
            vec![],
            vec![(best.unwrap(), [-100.0, 1.0, 0.0])],
            vec![(2, [100.0, 1.0, 0.0])],
            // All tokens but the first, as far as a list goes.
            every(1, [0.5, 0.8, -1.0]).into_iter().skip(1).take(2048).collect(),
            vec![(1, [1.0, 2.0, 3.0]), (2, [-1.0, 2.0, 0.0])],
        ];
        let part_size = vocab.div_ceil(VOCAB_PARTS);
        let plain = 4 + 2 * count + part_size;
        let places = lists.iter().scan(0, |end, list| {
            let place = *end;
            *end += plain + list.len();
            Some(place)
        });
        let places: Vec<usize> = places.collect();
        let (temperatures, chances) = ([1.0, 0.7, 1.5, 1.0, 0.4, 2.0], [0.31, 0.5, 0.93, 0.6, 0.77, 0.2f32]);
        let entry = |row: usize| {
            [row as u32, places[row] as u32, f32::to_bits(temperatures[row]), f32::to_bits(chances[row])]
        };
        let entries: Vec<_> = (0..lists.len()).map(entry).collect();
        let logits = normals.repeat(lists.len());
        let words = places[5] + plain + lists[5].len();
        let (found, after) = adjusted_candidates(&device, &logits, &entries, &lists, words);
        assert_eq!(after, logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>());
        for (row, list) in lists.iter().enumerate() {
            let found = &found[places[row]..][..plain + list.len()];
            let temperature = f64::from(temperatures[row]);
            let mut others = normals.clone();
            list.iter().for_each(|&(token, _)| others[token as usize] = -1e30);
            let mut ranked: Vec<usize> = (0..vocab).collect();
            ranked.sort_by(|&a, &b| others[b].total_cmp(&others[a]).then(a.cmp(&b)));
            for (pair, &token) in found[4..4 + 2 * count].chunks(2).zip(&ranked) {
                let pair = (f32::from_bits(pair[0]), pair[1]);
                assert_eq!(pair, (token as f32, others[token].to_bits()), "{vocab}, row {row}");
            }
            let returned = list.iter().map(|&(token, _)| normals[token as usize].to_bits());
            assert_eq!(found[plain..], returned.collect::<Vec<_>>(), "{vocab}, row {row}");
            let top = f64::from(others[ranked[0]]);
            let weight = |logit: f64, temperature: f64| ((logit - top) / temperature).exp();
            let sum = |tokens: &[f32], temperature| -> f64 {
                tokens.iter().map(|&logit| weight(f64::from(logit), temperature)).sum()
            };
            let numbers = [found[0], found[1], found[2], found[3]].map(f32::from_bits);
            for (number, temperature) in numbers.iter().zip([1.0, temperature]) {
                let error = (f64::from(*number) / sum(&others, temperature) - 1.0).abs();
                assert!(error < 2f64.powi(-16), "{vocab}, row {row}: error {error:e}");
            }
            // The adjusted weights of the tokens before one.
            let adjusted = |end: usize| -> f64 {
                let before = list.iter().filter(|(token, _)| (*token as usize) < end);
                let weights = before.map(|&(token, numbers)| {
                    let [bias, factor, deduction] = numbers.map(f64::from);
                    let biased = f64::from(normals[token as usize]) + bias;
                    let divided = if biased > 0.0 { biased / factor } else { biased * factor };
                    weight((divided - deduction).min(top + 80.0 * temperature), temperature)
                });
                weights.sum()
            };
            let start = numbers[2] as usize * part_size;
            let end = vocab.min(start + part_size);
            let before = sum(&others[..start], temperature);
            let error = sum(&others, temperature) * 2f64.powi(-16);
            assert!((f64::from(numbers[3]) - before).abs() < error, "{vocab}, row {row}");
            let total = sum(&others, temperature) + adjusted(vocab);
            let (target, error) = (f64::from(chances[row]) * total, total * 2f64.powi(-14));
            let upper = sum(&others[..end], temperature) + adjusted(end);
            assert!(
                before + adjusted(start) - error < target && target < upper + error,
                "{vocab}, row {row}"
            );
            for (at, &bits) in found[4 + 2 * count..plain].iter().enumerate() {
                let logit = others.get(start + at).copied().unwrap_or(f32::NEG_INFINITY);
                assert_eq!(bits, logit.to_bits(), "{vocab}, row {row}, token {}", start + at);
            }
        }
    }
}

#[test]
fn candidates_are_the_most_probable_tokens_ties_to_the_lower_one_with_sums_over_all() {
    for vocab in [3, 256, 257, 3000, 6000] {
        let device = Device::new(ModelConfig { vocab, ..config() });
        let count = vocab.min(CANDIDATES);
        let normals = Random::new(vocab as u64).normals(vocab, 4.0);
        let of = |logit: &dyn Fn(usize) -> f32| (0..vocab).map(logit).collect::<Vec<f32>>();
        let rows = [
            ("distinct", normals.clone(), 1.0),
            ("rounded", normals.iter().map(|logit| logit.round()).collect(), 0.7),
            ("equal", vec![-3.5; vocab], 2.0),
            ("few above many ties", of(&|token| if token % 17 == 16 { 1.0 } else { -2.0 }), 0.01),
            ("zeros of both signs", of(&|token| if token % 3 == 0 { 0.0 } else { -0.0 }), 1.0),
            ("subnormal", of(&|token| f32::from_bits((token as u32 * 7919) % 4096)), 1.0),
            ("out of range of exp", of(&|token| (token as f32 - 50.0) * 1e34), 0.3),
            ("forbidden", of(&|token| if token == 1 { 2.0 } else { f32::NEG_INFINITY }), 1.0),
            // Every 256th is low: all that one of 256 threads sees.
            ("unequal shares", of(&|token| if token % 256 == 7 { -50.0 } else { normals[token] }), 1.0),
            ("unequal ties", of(&|token| if token % 256 == 7 { -50.0 } else { normals[token].round() }), 1.0),
        ];
        let part_size = vocab.div_ceil(VOCAB_PARTS);
        let width = 4 + 2 * count + part_size;
        let chances = [0.0, 0.25, 0.5, 0.999, 1.0, 0.75, 0.0, 0.3, 0.6, 0.1f32];
        let entries: Vec<_> = (0..rows.len())
            .map(|row| {
                [row as u32, (row * width) as u32, f32::to_bits(rows[row].2), f32::to_bits(chances[row])]
            })
            .collect();
        let logits: Vec<f32> = rows.iter().flat_map(|(_, logits, _)| logits.iter().copied()).collect();
        let found = candidates(&device, &logits, &entries, rows.len() * width);
        for (((name, logits, temperature), found), chance) in
            rows.iter().zip(found.chunks(width)).zip(chances)
        {
            let mut ranked: Vec<usize> = (0..vocab).collect();
            ranked.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
            for (rank, (pair, &token)) in found[4..4 + 2 * count].chunks(2).zip(&ranked).enumerate() {
                let pair = (f32::from_bits(pair[0]), pair[1]);
                assert_eq!(pair, (token as f32, logits[token].to_bits()), "{name}, {vocab}, rank {rank}");
            }
            for (found, temperature) in found[..2].iter().zip([1.0, *temperature]) {
                let below = |logit: &f32| f64::from(*logit) - f64::from(logits[ranked[0]]);
                let expected: f64 =
                    logits.iter().map(|logit| (below(logit) / f64::from(temperature)).exp()).sum();
                let error = (f64::from(f32::from_bits(*found)) / expected - 1.0).abs();
                assert!(error < 2f64.powi(-16), "{name}, {vocab}, {temperature}: error {error:e}");
            }
            let weight = |logit: &f32| {
                ((f64::from(*logit) - f64::from(logits[ranked[0]])) / f64::from(*temperature)).exp()
            };
            let total: f64 = logits.iter().map(weight).sum();
            let [part, before] = [found[2], found[3]].map(f32::from_bits);
            if chance == 1.0 {
                assert_eq!(part, -1.0, "{name}, {vocab}");
                continue;
            }
            let start = part as usize * part_size;
            let end = vocab.min(start + part_size);
            let expected: f64 = logits[..start].iter().map(weight).sum();
            let within: f64 = logits[start..end].iter().map(weight).sum();
            let (error, target) = (total * 2f64.powi(-16), f64::from(chance) * total);
            assert!((f64::from(before) - expected).abs() < error, "{name}, {vocab}: {before} for {expected}");
            assert!(expected - 2.0 * error < target && target < expected + within + 2.0 * error);
            let part_logits = &found[4 + 2 * count..];
            for (at, &bits) in part_logits.iter().enumerate() {
                let logit = logits.get(start + at).copied().unwrap_or(f32::NEG_INFINITY);
                assert_eq!(bits, logit.to_bits(), "{name}, {vocab}, token {}", start + at);
            }
        }
        // In each repetition, and alone.
        let again = candidates(&device, &logits, &entries, rows.len() * width);
        assert_eq!(again, found);
        let alone = candidates(&device, &logits, &[[1, 0, entries[1][2], entries[1][3]]], width);
        assert_eq!(alone, found[width..2 * width]);
    }
}

#[test]
fn a_logit_that_is_nan_is_the_first_candidate() {
    let device = Device::new(config());
    for nan in [f32::NAN, -f32::NAN] {
        let mut logits = vec![0.5; 99];
        (logits[3], logits[70]) = (f32::INFINITY, nan);
        let found = candidates(&device, &logits, &[[0, 0, 1f32.to_bits(), 0]], 4 + 2 * 99 + 1);
        assert_eq!(f32::from_bits(found[4]), 70.0);
        assert!(f32::from_bits(found[5]).is_nan(), "{:x}", found[5]);
    }
}

#[test]
fn sums_of_many_rows_lose_nothing() {
    let device = Device::new(config());
    let hidden = device.config.hidden;
    let rows = Random::new(12).normals(600 * hidden, 1.0);
    let rows: Vec<f32> = rows.iter().map(|value| value + 100.0).collect();
    let (inputs, sums) = (device.floats(&rows), device.floats(&vec![f32::NAN; 2 * hidden]));
    let mut found = Vec::new();
    // In two parts, the first of which begins at 0.
    for (count, first, reset) in [(200, 100, 1), (300, 300, 0)] {
        let call = [count, 0, 0, 0, 0, 0, first, reset];
        let launch = (&device.kernels.sum, &[&inputs, &sums][..], (1, 1));
        found = to_floats(&device.run(call, &[], launch, (&sums, hidden)));
    }
    for (col, found) in found.iter().enumerate() {
        let expected: f64 = (100..600).map(|row| f64::from(rows[row * hidden + col])).sum();
        assert!((f64::from(*found) - expected).abs() <= 0.004, "{found} for {expected}");
    }
}
