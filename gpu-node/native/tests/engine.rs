//! The forward pass on a seeded model: the same bits on any number of threads, in chunks of any size, beside any other
//! sequences.
#![cfg(not(miri))]

use crate::support::Random;
use crate::support::engine::{engine, weights};
use crate::support::model::model;
use copal_native::cpu::Implementation;
use copal_native::engine::{
    Engine, EngineOptions, KvPrecision, ModelConfig, Output, PAGE_TOKENS, SetForm, StepError, WeightLibrary,
    WeightSet, Work,
};
use copal_native::storage::{Form, Format, Precision};
use std::sync::Arc;

const TOKENS: usize = 45;
const PACKED: SetForm = SetForm::One(Form::Packed);

fn tokens(seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..TOKENS).map(|_| (random.uniform() * 99.0) as u32).collect()
}

/// Four pages of its own for each of a few sequences.
fn pages_of(sequence: u64) -> Vec<u32> {
    (0..4).map(|page| (sequence % 16) as u32 * 4 + page).collect()
}

/// Scores of all tokens but the first, fed in chunks of these lengths beside `others` other sequences.
fn scores(engine: &mut Engine, weights: &WeightSet, chunks: &[usize], others: usize) -> Vec<f32> {
    let own = tokens(7);
    let targets: Vec<i32> = own[1..].iter().map(|&token| token as i32).chain([-1]).collect();
    let other_tokens: Vec<Vec<u32>> = (0..others).map(|other| tokens(100 + other as u64)).collect();
    let pages: Vec<Vec<u32>> = (0..=others as u64).map(pages_of).collect();
    let (mut all, mut at) = (Vec::new(), 0);
    for &length in chunks {
        let range = at..at + length;
        let other_works = other_tokens.iter().enumerate().map(|(index, tokens)| Work {
            sequence: 10 + index as u64,
            position: at,
            tokens: &tokens[range.clone()],
            cached: 0,
            pages: &pages[index + 1],
            output: if index % 2 == 0 { Output::Logits } else { Output::None },
        });
        let targets = &targets[range.clone()];
        let output = Output::Scores { targets, alternatives: 0, logits: false };
        let tokens = &own[range.clone()];
        let work = Work { sequence: 1, position: at, tokens, cached: 0, pages: &pages[0], output };
        engine.step(weights, &other_works.chain([work]).collect::<Vec<_>>(), &mut all).unwrap();
        at = range.end;
    }
    assert_eq!(all.len(), TOKENS - 1);
    all
}

#[test]
fn scores_are_the_same_bits_on_any_threads_in_any_chunks_beside_any_sequences() {
    let model = model("bits");
    let formats = [Precision::Bf16, Precision::Int8, Precision::Int4].map(Format::usual);
    for format in formats {
        let weights = weights(&model, format);
        for kernel in Implementation::supported() {
            let expected = scores(&mut engine(&model, kernel, 1, 64), &weights, &[TOKENS], 0);
            assert!(expected.iter().all(|nll| nll.is_finite()));
            for threads in [1, 3] {
                for chunks in [vec![1; TOKENS], vec![1, 16, 17, 11], vec![9, 36]] {
                    for others in [0, 8] {
                        let engine = &mut engine(&model, kernel, threads, 64);
                        let found = scores(engine, &weights, &chunks, others);
                        assert!(
                            found
                                .iter()
                                .map(|nll| nll.to_bits())
                                .eq(expected.iter().map(|nll| nll.to_bits())),
                            "{}, {format:?}, {threads} threads, chunks {chunks:?}, {others} others",
                            kernel.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn kernels_agree_up_to_the_rounding_of_activations() {
    let model = model("kernels");
    let weights = weights(&model, Format::BF16);
    let expected = scores(
        &mut engine(&model, Implementation::select(Some("scalar")).unwrap(), 1, 64),
        &weights,
        &[TOKENS],
        0,
    );
    for kernel in Implementation::supported() {
        let found = scores(&mut engine(&model, kernel, 2, 64), &weights, &[TOKENS], 0);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 0.1, "{}: {found} for {expected}", kernel.name());
        }
    }
}

#[test]
fn a_sequence_on_shared_pages_gives_the_bits_of_one_that_computed_them() {
    let model = model("shared");
    let weights = weights(&model, Format::BF16);
    for kernel in Implementation::supported() {
        let expected = scores(&mut engine(&model, kernel, 2, 64), &weights, &[TOKENS], 0);
        let mut engine = engine(&model, kernel, 2, 64);
        scores(&mut engine, &weights, &[9, 36], 0);
        let own = tokens(7);
        let targets: Vec<i32> = own[1..].iter().map(|&token| token as i32).chain([-1]).collect();
        for pages_shared in [1, 2] {
            let cached = pages_shared * PAGE_TOKENS;
            let mut pages = pages_of(0);
            pages[pages_shared..].copy_from_slice(&pages_of(5)[pages_shared..]);
            let work = Work {
                sequence: 2 + cached as u64,
                position: cached,
                tokens: &own[cached..],
                cached,
                pages: &pages,
                output: Output::Scores { targets: &targets[cached..], alternatives: 0, logits: false },
            };
            let mut found = Vec::new();
            engine.step(&weights, &[work], &mut found).unwrap();
            assert_eq!(bits(&found), bits(&expected[cached..]), "{}", kernel.name());
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn scores_are_followed_by_the_most_probable_tokens_and_by_logits_if_wanted() {
    let model = model("alternatives");
    let weights = weights(&model, Format::BF16);
    let own = tokens(7);
    let targets: Vec<i32> = own[1..].iter().map(|&token| token as i32).chain([-1]).collect();
    for kernel in Implementation::supported() {
        let plain = scores(&mut engine(&model, kernel, 2, 64), &weights, &[TOKENS], 0);
        let mut engine = engine(&model, kernel, 2, 64);
        let output = Output::Scores { targets: &targets, alternatives: 3, logits: true };
        let pages = pages_of(0);
        let work = Work { sequence: 1, position: 0, tokens: &own, cached: 0, pages: &pages, output };
        let mut found = Vec::new();
        engine.step(&weights, &[work], &mut found).unwrap();
        let last = engine.logits(0).unwrap().to_vec();
        assert_eq!(found.len(), (TOKENS - 1) * 7);
        for (position, found) in found.chunks(7).enumerate() {
            assert_eq!(found[0].to_bits(), plain[position].to_bits(), "{}", kernel.name());
            let (output, pages) = (Output::Logits, pages_of(1));
            let work = Work {
                sequence: 2,
                position,
                tokens: &own[position..=position],
                cached: 0,
                pages: &pages,
                output,
            };
            engine.step(&weights, &[work], &mut Vec::new()).unwrap();
            let logits = engine.logits(0).unwrap();
            let mut ranked: Vec<usize> = (0..logits.len()).collect();
            ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
            let target = logits[targets[position] as usize];
            for (&token, pair) in ranked.iter().zip(found[1..].chunks(2)) {
                assert_eq!(pair[0] as usize, token, "{}", kernel.name());
                assert!((pair[1] - found[0] - (target - logits[token])).abs() < 1e-4, "{}", kernel.name());
            }
        }
        let (output, pages) = (Output::Logits, pages_of(1));
        let tokens = &own[TOKENS - 1..];
        let work = Work { sequence: 2, position: TOKENS - 1, tokens, cached: 0, pages: &pages, output };
        engine.step(&weights, &[work], &mut Vec::new()).unwrap();
        assert_eq!(bits(&last), bits(engine.logits(0).unwrap()), "{}", kernel.name());
    }
}

#[test]
fn logits_after_drafts_have_the_bits_of_single_tokens_and_wrong_drafts_leave_no_trace() {
    let model = model("drafts");
    let own = tokens(7);
    for format in [Precision::Bf16, Precision::Int8, Precision::Int4].map(Format::usual) {
        let weights = weights(&model, format);
        for kernel in Implementation::supported() {
            let mut single = engine(&model, kernel, 2, 64);
            let pages = pages_of(0);
            let logits_after = |engine: &mut Engine, position, tokens, output, rows: usize| {
                let work = Work { sequence: 1, position, tokens, cached: 0, pages: &pages, output };
                engine.step(&weights, &[work], &mut Vec::new()).unwrap();
                assert!(engine.logits(rows).is_none(), "{}", kernel.name());
                (0..rows).map(|row| bits(engine.logits(row).unwrap())).collect::<Vec<_>>()
            };
            let expected: Vec<_> = (0..TOKENS)
                .flat_map(|at| logits_after(&mut single, at, &own[at..=at], Output::Logits, 1))
                .collect();
            let mut drafted = engine(&model, kernel, 2, 64);
            let prompt = [&own[..9], &[50; 4]].concat();
            let found = logits_after(&mut drafted, 0, &prompt, Output::Drafted { drafts: 5 }, 6);
            assert_eq!(found[..2], expected[7..9], "{}, {format:?}", kernel.name());
            // More than a batch of 16 tokens.
            let found = logits_after(&mut drafted, 9, &own[9..31], Output::Drafted { drafts: 19 }, 20);
            assert_eq!(found, expected[11..31], "{}, {format:?}", kernel.name());
            let found = logits_after(&mut drafted, 31, &own[31..32], Output::Drafted { drafts: 0 }, 1);
            assert_eq!(found, expected[31..32], "{}, {format:?}", kernel.name());
        }
    }
}

#[test]
fn works_that_do_not_fit_are_rejected_and_change_nothing() {
    let model = model("misfits");
    let weights = weights(&model, Format::BF16);
    let mut engine = engine(&model, Implementation::select(None).unwrap(), 1, 64);
    let prompt = tokens(1);
    let work = |sequence, position, cached, count: usize, pages| Work {
        sequence,
        position,
        tokens: &prompt[..count],
        cached,
        pages,
        output: Output::None,
    };
    let (own, other) = (pages_of(0), pages_of(1));
    engine.step(&weights, &[work(1, 0, 0, 20, &own)], &mut Vec::new()).unwrap();
    let before = engine.usage();
    let mut rejection = |works: &[Work<'_>]| match engine.step(&weights, works, &mut Vec::new()) {
        Err(StepError::Misfit(message)) => message,
        other => panic!("{other:?}"),
    };
    let shared = [own[0], other[0]];
    for (works, part) in [
        (vec![work(2, 0, 0, 0, &other)], "no tokens"),
        (vec![work(2, 3, 0, 1, &other)], "0 tokens are held"),
        (vec![work(1, 21, 0, 1, &own)], "20 tokens are held"),
        (vec![work(2, 16, 32, 1, &other)], "after 32 cached tokens"),
        (vec![work(2, 5, 5, 1, &own)], "after 5 cached tokens"),
        (vec![work(2, 16, 16, 1, &other)], "page 4 was never written"),
        (vec![work(1, 20, 0, 45, &own)], "the model takes 64"),
        (vec![work(2, usize::MAX, usize::MAX, 1, &own)], "after"),
        (vec![work(2, 0, 0, 17, &other[..1])], "1 pages, too few for 17 tokens"),
        (vec![work(2, 0, 0, 1, &[64])], "page 64 is not one of the 64 pages"),
        (vec![work(2, 0, 0, 1, &other), work(2, 0, 0, 1, &own)], "another work"),
        (vec![work(2, 0, 0, 1, &other), work(3, 0, 0, 1, &other)], "page 4, which the step uses twice"),
        (vec![work(2, 0, 0, 17, &[4, 4])], "page 4, which the step uses twice"),
        (vec![work(1, 20, 0, 1, &own), work(2, 0, 0, 1, &own)], "which the step uses twice"),
        (
            vec![Work { output: Output::Drafted { drafts: 2 }, ..work(1, 20, 0, 2, &own) }],
            "logits after 3 of 2 tokens",
        ),
    ] {
        let message = rejection(&works);
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(engine.usage(), before);
    // Pages that are only read may be shared.
    engine.step(&weights, &[work(1, 20, 0, 1, &own), work(2, 16, 16, 1, &shared)], &mut Vec::new()).unwrap();
    engine.drop_sequences_of(&weights);
    assert_eq!(engine.usage().sequences, 0);
}

#[test]
fn more_pages_than_the_machine_can_have_are_rejected_at_the_start() {
    let model = model("too-many-pages");
    for pages in [1 << 45, usize::MAX] {
        let options = EngineOptions { threads: 1, pages, kv_precision: KvPrecision::F16, batch_tokens: 8 };
        let error =
            Engine::new(model.config.clone(), Implementation::select(None).unwrap(), &options).err().unwrap();
        assert!(error.to_string().contains("give the cache fewer tokens"), "{error}");
    }
}

#[test]
fn sizes_that_no_machine_should_have_are_rejected_at_the_start() {
    let model = model("too-wide");
    let new = |config: &ModelConfig, batch_tokens| {
        let options = EngineOptions { threads: 1, pages: 1, kv_precision: KvPrecision::F16, batch_tokens };
        config.check().map_err(|error| error.to_string())?;
        Engine::new(config.clone(), Implementation::select(None).unwrap(), &options)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let max_size = (1 << 24) - 1;
    let hidden = ModelConfig { hidden: max_size, ..model.config.clone() };
    let intermediate = ModelConfig { intermediate: max_size, ..model.config.clone() };
    let heads = ModelConfig { heads: max_size - 1, kv_heads: 1, ..model.config.clone() };
    for (config, batch_tokens, part) in [
        (&hidden, 1, "32 tokens of 16777215 columns"),
        (&intermediate, 1 << 16, "65536 tokens of 16777215 columns"),
        (&heads, 1, "all heads are"),
        (&model.config, 1 << 40, "more than a gigabyte"),
    ] {
        let error = new(config, batch_tokens).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    new(&model.config, 1 << 16).unwrap();
}

#[test]
fn swaps_that_poison_freed_sets_give_the_results_of_each_mask_alone() {
    let model = model("poison");
    let kernel = Implementation::select(None).unwrap();
    let library = WeightLibrary::new(model.config.clone(), Format::BF16, Format::BF16, Arc::default());
    let load = |swap: usize| library.load([&model.places, &model.other][swap % 2], PACKED, 2).unwrap();
    let expected =
        [0, 1].map(|swap| bits(&scores(&mut engine(&model, kernel, 2, 64), &load(swap), &[TOKENS], 0)));
    assert_ne!(expected[0], expected[1]);
    copal_native::poison::poison_freed(true);
    let mut engine = engine(&model, kernel, 2, 64);
    let mut active = load(0);
    for swap in 0..6 {
        assert_eq!(bits(&scores(&mut engine, &active, &[9, 36], 3)), expected[swap % 2]);
        // Both sets are loaded and take turns until the old one is drained.
        let next = load(swap + 1);
        assert_eq!(bits(&scores(&mut engine, &next, &[36, 9], 1)), expected[(swap + 1) % 2]);
        assert_eq!(bits(&scores(&mut engine, &active, &[TOKENS], 0)), expected[swap % 2]);
        engine.drop_sequences_of(&active);
        active = next;
    }
    copal_native::poison::poison_freed(false);
}

#[test]
fn the_form_of_weights_in_bf16_and_int8_changes_no_bit() {
    let model = model("forms");
    for precision in [Precision::Bf16, Precision::Int8] {
        let format = Format::usual(precision);
        let library = WeightLibrary::new(model.config.clone(), format, Format::BF16, Arc::default());
        let load = |form| library.load(&model.places, form, 2).unwrap();
        let packed = load(PACKED);
        let dense = load(SetForm::One(Form::Dense));
        let both = load(SetForm::Both { dense_from: 5 });
        assert_eq!(both.stream_bytes(), packed.stream_bytes());
        assert!(packed.memory_bytes() < dense.memory_bytes());
        assert!(dense.memory_bytes() < both.memory_bytes());
        for kernel in Implementation::supported() {
            for chunks in [vec![1; TOKENS], vec![1, 4, 8, 32], vec![TOKENS]] {
                let of = |weights: &WeightSet| {
                    bits(&scores(&mut engine(&model, kernel, 2, 64), weights, &chunks, 0))
                };
                let expected = of(&packed);
                assert_eq!(of(&dense), expected, "{}, {precision:?}, {chunks:?}, dense", kernel.name());
                assert_eq!(of(&both), expected, "{}, {precision:?}, {chunks:?}, both", kernel.name());
            }
        }
    }
}
