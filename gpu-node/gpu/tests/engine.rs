//! Whole steps of a seeded model against a forward pass in double precision, and against each other.

use crate::support::native::Random;
use crate::support::native::model::model;
use crate::support::reference::{Reference, nll};
use crate::support::{BF16, bits, engine, load, pages_of, step, tokens, work};
use copal_gpu::device::Gpu;
use copal_gpu::engine::{Adjustments, Downloads, Fault, Output, PAGE_TOKENS, StepError, Work};
use std::collections::HashSet;
use std::sync::Arc;

const TOKENS: usize = 45;

fn scores<'a>(targets: &'a [i32]) -> Output<'a> {
    Output::Scores { targets, alternatives: 0, logits: false }
}

fn targets_of(tokens: &[u32]) -> Vec<i32> {
    tokens[1..].iter().map(|&token| token as i32).chain([-1]).collect()
}

#[test]
fn a_step_equals_the_forward_pass_in_double_precision() {
    let model = model("gpu-reference");
    let mut engine = engine(&model, BF16, 16);
    let own = tokens(7, TOKENS);
    let targets = targets_of(&own);
    for places in [&model.places, &model.other] {
        let weights = engine.library().load(places, 2).unwrap();
        let expected = Reference::new(&model.config, places, BF16).run(&own);
        let pages = pages_of(0);
        let output = Output::Scores { targets: &targets, alternatives: 3, logits: true };
        let found = step(&mut engine, &weights, &[work(1, 0, &own, &pages, output)]).unwrap();
        assert_eq!(found.len(), (TOKENS - 1) * 7);
        for (position, found) in found.chunks(7).enumerate() {
            let logits = &expected[position].1;
            let target = nll(logits, own[position + 1] as usize);
            assert!((f64::from(found[0]) - target).abs() < 1e-3, "{position}: {} for {target}", found[0]);
            let mut ranked: Vec<usize> = (0..99).collect();
            ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            for (pair, token) in found[1..].chunks(2).zip(ranked) {
                // Tokens that are almost equally probable may swap.
                let (found, expected) = (nll(logits, pair[0] as usize), nll(logits, token));
                assert!((found - expected).abs() < 2e-3, "{position}: {found} for {expected}");
                assert!((f64::from(pair[1]) - expected).abs() < 2e-3);
            }
        }
        let logits = engine.logits(0).unwrap();
        for (found, expected) in logits.iter().zip(&expected[TOKENS - 1].1) {
            assert!((f64::from(*found) - expected).abs() < 2e-3, "{found} for {expected}");
        }
        assert!(engine.logits(1).is_none());
        let pages = pages_of(1);
        let sum =
            step(&mut engine, &weights, &[work(2, 0, &own, &pages, Output::HiddenSum { targets: None })])
                .unwrap();
        for (col, found) in sum.iter().enumerate() {
            let expected: f64 = expected.iter().map(|(hidden, _)| hidden[col]).sum();
            assert!((f64::from(*found) - expected).abs() < 5e-3, "{found} for {expected}");
        }
        engine.drop_sequences_of(&weights);
    }
}

#[test]
fn scores_are_the_same_bits_in_any_chunks_beside_any_sequences() {
    let model = model("gpu-bits");
    let own = tokens(7, TOKENS);
    let targets = targets_of(&own);
    let mut expected: Option<Vec<u32>> = None;
    let divisions = [vec![TOKENS], vec![1, 16, 17, 11], vec![1; TOKENS]];
    // Tokens of six sequences fit into either batch, so that single ones show the same in both.
    for (batch_tokens, divisions) in [(7, &divisions[..2]), (64, &divisions)] {
        let mut engine = engine(&model, BF16, batch_tokens);
        let weights = load(&engine, &model);
        for chunks in divisions {
            for others in [0u64, 5] {
                let (mut all, mut at) = (Vec::new(), 0);
                let other_tokens: Vec<_> = (0..others).map(|other| tokens(100 + other, TOKENS)).collect();
                let pages: Vec<_> = (0..=others).map(pages_of).collect();
                for &length in chunks {
                    let range = at..at + length;
                    let other = |(index, tokens): (usize, &'_ Vec<u32>)| {
                        (10 + index as u64, index + 1, tokens.clone())
                    };
                    let owned: Vec<_> = other_tokens.iter().enumerate().map(other).collect();
                    let mut works: Vec<_> = owned
                        .iter()
                        .map(|(id, index, tokens)| {
                            let output = [Output::Logits, Output::None, Output::HiddenSum { targets: None }];
                            let output = output.into_iter().nth(index % 3).unwrap();
                            work(*id, at, &tokens[range.clone()], &pages[*index], output)
                        })
                        .collect();
                    let output = scores(&targets[range.clone()]);
                    works.insert(0, work(1, at, &own[range.clone()], &pages[0], output));
                    let count = targets[range.clone()].iter().filter(|&&target| target >= 0).count();
                    all.extend(&step(&mut engine, &weights, &works).unwrap()[..count]);
                    at = range.end;
                }
                let found = bits(&all);
                assert_eq!(found.len(), TOKENS - 1);
                let expected = expected.get_or_insert_with(|| found.clone());
                assert_eq!(&found, expected, "batches of {batch_tokens}, chunks {chunks:?}, {others} others");
                engine.drop_sequences_of(&weights);
            }
        }
    }
}

#[test]
fn a_sequence_on_shared_pages_gives_the_bits_of_one_that_computed_them() {
    let model = model("gpu-shared");
    let mut engine = engine(&model, BF16, 64);
    let weights = load(&engine, &model);
    let own = tokens(7, TOKENS);
    let targets = targets_of(&own);
    let pages = pages_of(0);
    let expected = step(&mut engine, &weights, &[work(1, 0, &own, &pages, scores(&targets))]).unwrap();
    for shared in [1, 2] {
        let cached = shared * PAGE_TOKENS;
        let mut pages = pages_of(0);
        pages[shared..].copy_from_slice(&pages_of(5)[shared..]);
        let mut item = work(2 + cached as u64, cached, &own[cached..], &pages, scores(&targets[cached..]));
        item.cached = cached;
        let found = step(&mut engine, &weights, &[item]).unwrap();
        assert_eq!(bits(&found), bits(&expected[cached..]));
    }
}

#[test]
fn results_follow_the_order_of_the_works_across_batches() {
    let model = model("gpu-order");
    let mut engine = engine(&model, BF16, 8);
    let weights = load(&engine, &model);
    let texts: Vec<_> = (0..4).map(|seed| tokens(seed, 20)).collect();
    let targets: Vec<_> = texts.iter().map(|text| targets_of(text)).collect();
    let pages: Vec<_> = (0..4).map(pages_of).collect();
    let outputs = |index: usize| match index {
        0 => Output::HiddenSum { targets: None },
        1 => Output::Scores { targets: &targets[1], alternatives: 2, logits: true },
        2 => Output::Logits,
        _ => Output::HiddenSum { targets: None },
    };
    let mut alone = Vec::new();
    let mut logits = Vec::new();
    for index in 0..4 {
        let item = work(index as u64, 0, &texts[index], &pages[index], outputs(index));
        alone.extend(step(&mut engine, &weights, &[item]).unwrap());
        logits.extend(engine.logits(0).map(bits));
    }
    let works: Vec<_> =
        (0..4).map(|index| work(index as u64, 0, &texts[index], &pages[index], outputs(index))).collect();
    let together = step(&mut engine, &weights, &works).unwrap();
    assert_eq!(bits(&together), bits(&alone));
    assert_eq!([0, 1].map(|index| bits(engine.logits(index).unwrap())).to_vec(), logits);
}

#[test]
fn candidates_come_with_the_step_and_their_logits_on_demand() {
    let model = model("gpu-candidates");
    let mut engine = engine(&model, BF16, 8);
    let weights = load(&engine, &model);
    let texts: Vec<_> = (0..4).map(|seed| tokens(seed, 20)).collect();
    let targets = targets_of(&texts[1]);
    let pages: Vec<_> = (0..4).map(pages_of).collect();
    let mut logits = Vec::new();
    for index in 0..3 {
        let item = work(index as u64, 0, &texts[index], &pages[index], Output::Logits);
        step(&mut engine, &weights, &[item]).unwrap();
        logits.push(engine.logits(0).unwrap().to_vec());
    }
    let works: Vec<_> = (0..4)
        .map(|index| {
            let output = match index {
                1 => Output::Scores { targets: &targets, alternatives: 2, logits: true },
                3 => Output::HiddenSum { targets: None },
                _ => Output::Candidates { temperature: 0.5, chances: &[0.5] },
            };
            work(index as u64, 0, &texts[index], &pages[index], output)
        })
        .collect();
    let found = step(&mut engine, &weights, &works).unwrap();
    let count = engine.candidates();
    let (list, scores) = (4 + 2 * count + 1, 19 * 5);
    assert_eq!(found.len(), 2 * list + scores + model.config.hidden);
    for (start, logits) in [(0, &logits[0]), (list + scores, &logits[2])] {
        let pairs = &found[start + 4..start + list - 1];
        let mut ranked: Vec<usize> = (0..logits.len()).collect();
        ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        for (pair, &token) in pairs.chunks(2).zip(&ranked) {
            assert_eq!((pair[0], pair[1].to_bits()), (token as f32, logits[token].to_bits()));
        }
    }
    assert!(engine.logits(0).is_none(), "those of candidates stay on the device");
    for index in [2, 0, 1, 0, 2] {
        assert_eq!(engine.download_logits(&[index]).unwrap(), None);
        assert_eq!(bits(engine.logits(index).unwrap()), bits(&logits[index]));
    }
    assert!(engine.logits(3).is_none());
    assert_eq!(engine.download_logits(&[0, 3]).unwrap(), Some(3));
    engine.gpu().lose();
    assert!(matches!(step(&mut engine, &weights, &works), Err(Fault::Device(_))));
    assert!(engine.logits(0).is_none());
}

#[test]
fn adjusted_tokens_are_in_no_candidates_and_their_logits_follow_those() {
    let model = model("gpu-adjusted");
    let mut engine = engine(&model, BF16, 8);
    let weights = load(&engine, &model);
    let vocab = model.config.vocab;
    let text = tokens(5, 12);
    let pages: Vec<_> = (0..3).map(pages_of).collect();
    let works = |output: fn(usize) -> Output<'static>| -> Vec<Work<'_>> {
        (0..3).map(|index| work(index as u64, 0, &text, &pages[index], output(index))).collect()
    };
    let drafts = |index| [2, 0, 1][index];
    step(&mut engine, &weights, &works(|index| Output::Drafted { drafts: [2, 0, 1][index] })).unwrap();
    let rows = (0..3).map(|index| 1 + drafts(index)).sum();
    let logits: Vec<_> = (0..rows).map(|row| engine.logits(row).unwrap().to_vec()).collect();
    let sampled = works(|index| match index {
        1 => Output::Logits,
        _ => Output::Candidates { temperature: 0.5, chances: &[0.5, 0.2, 0.9][..1 + [2, 0, 1][index]] },
    });
    // Five rows have candidates: three are of the first work, two of the last one.
    let lists: [&[u32]; 5] = [&[0, 7, 98], &[], &[3], &[1, 2, 3, 4, 5, 6], &[50]];
    let numbers = [1.0; 8];
    let adjustments = lists.map(|tokens| {
        let numbers = &numbers[..tokens.len()];
        Adjustments { tokens, biases: numbers, factors: numbers, deductions: numbers }
    });
    let mut found = Vec::new();
    engine.step(&weights, &sampled, &adjustments, &mut found).unwrap();
    let mut rest = &found[..];
    for (row, tokens) in [0, 1, 2, 4, 5].into_iter().zip(lists) {
        let (list, others) = rest.split_at(4 + 2 * engine.candidates() + 1);
        let (own, others) = others.split_at(tokens.len());
        rest = others;
        let mut ranked: Vec<usize> = (0..vocab).filter(|&token| !tokens.contains(&(token as u32))).collect();
        ranked.sort_by(|&a, &b| logits[row][b].total_cmp(&logits[row][a]).then(a.cmp(&b)));
        for (pair, &token) in list[4..].chunks(2).zip(&ranked) {
            assert_eq!((pair[0], pair[1].to_bits()), (token as f32, logits[row][token].to_bits()), "{row}");
        }
        let expected: Vec<f32> = tokens.iter().map(|&token| logits[row][token as usize]).collect();
        assert_eq!(bits(own), bits(&expected), "{row}");
    }
    assert!(rest.is_empty());
    // The logits themselves are not adjusted.
    assert_eq!(engine.download_logits(&[0, 1, 2, 4, 5]).unwrap(), None);
    (0..rows).for_each(|row| assert_eq!(bits(engine.logits(row).unwrap()), bits(&logits[row]), "{row}"));
    let before = engine.usage();
    for (tokens, part) in [
        (&[5, 4][..], "must rise"),
        (&[4, 4][..], "must rise"),
        (&[99][..], "in the vocabulary of 99 tokens"),
        (&[0; 99][..], "at most 98"),
    ] {
        let numbers = vec![1.0; tokens.len()];
        let (biases, factors, deductions) = (&numbers[..], &numbers[..], &numbers[..]);
        let mut wrong = adjustments;
        wrong[3] = Adjustments { tokens, biases, factors, deductions };
        match engine.step(&weights, &sampled, &wrong, &mut found) {
            Err(Fault::Step(StepError::Misfit(message))) => assert!(message.contains(part), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    let few = engine.step(&weights, &sampled, &adjustments[..4], &mut found);
    assert!(matches!(few, Err(Fault::Step(StepError::Misfit(_)))));
    assert_eq!(engine.usage(), before);
}

#[test]
fn candidates_after_drafts_are_those_of_single_tokens_and_come_in_one_download() {
    let model = model("gpu-drafts");
    let mut engine = engine(&model, BF16, 8);
    let weights = load(&engine, &model);
    let (text, other) = (tokens(5, 20), tokens(6, 3));
    let pages: Vec<_> = (0..5).map(pages_of).collect();
    let chances: Vec<f32> = (0..8).map(|place| place as f32 / 8.0).collect();
    let candidates = |chances| Output::Candidates { temperature: 0.7, chances };
    let (mut single, mut logits) = (Vec::new(), Vec::new());
    step(&mut engine, &weights, &[work(0, 0, &text[..12], &pages[0], Output::None)]).unwrap();
    for (at, chance) in (12..20).zip(chances.chunks(1)) {
        let item = work(0, at, &text[at..=at], &pages[0], candidates(chance));
        single.extend(step(&mut engine, &weights, &[item]).unwrap());
        assert_eq!(engine.download_logits(&[0]).unwrap(), None);
        logits.push(bits(engine.logits(0).unwrap()));
    }
    step(&mut engine, &weights, &[work(1, 0, &text[..12], &pages[1], Output::None)]).unwrap();
    let targets = targets_of(&text);
    let scores = Output::Scores { targets: &targets, alternatives: 1, logits: true };
    let works = [
        work(2, 0, &other, &pages[2], Output::Drafted { drafts: 2 }),
        work(1, 12, &text[12..], &pages[1], candidates(&chances)),
        work(3, 0, &text, &pages[3], scores),
        work(4, 0, &text[..13], &pages[4], candidates(&chances[..1])),
    ];
    let before = engine.downloads();
    let found = step(&mut engine, &weights, &works).unwrap();
    let list = single.len() / 8;
    assert_eq!(bits(&found[..8 * list]), bits(&single));
    assert_eq!(bits(&found[found.len() - list..]), bits(&single[..list]));
    // Three lists of logits of the first work and one of the third are downloaded with the results, those of candidates not.
    let transfers = |before: Downloads, after: Downloads| {
        (after.transfers - before.transfers, (after.bytes - before.bytes) as usize / 4)
    };
    let stepped = engine.downloads();
    assert_eq!(transfers(before, stepped), (1, found.len() + 4 * model.config.vocab));
    for (row, is_here) in [(0, true), (2, true), (3, false), (10, false), (11, true), (12, false)] {
        assert_eq!(engine.logits(row).is_some(), is_here, "{row}");
    }
    assert_eq!(engine.download_logits(&[12, 10, 0, 3]).unwrap(), None);
    assert_eq!(transfers(stepped, engine.downloads()), (1, 3 * model.config.vocab));
    for (row, place) in [(12, 0), (10, 7), (3, 0)] {
        assert_eq!(bits(engine.logits(row).unwrap()), logits[place], "{row}");
    }
    assert_eq!(bits(engine.logits(11).unwrap()), logits[7]);
}

#[test]
fn steps_of_a_size_share_a_graph_whatever_is_sampled_in_them() {
    let model = model("gpu-graphs");
    let mut engine = engine(&model, BF16, 24);
    let gpu = Arc::clone(engine.gpu());
    // Only CUDA has graphs.
    let Gpu::Cuda(device) = &*gpu else { return };
    let weights = load(&engine, &model);
    let texts: Vec<_> = (0..8).map(|seed| tokens(seed, 3)).collect();
    let pages: Vec<_> = (0..8).map(pages_of).collect();
    let mut random = Random::new(3);
    let mut pick = |count: usize| (random.uniform() * count as f64) as usize;
    let (mut sizes, chances) = (HashSet::new(), [0.2, 0.4, 0.9]);
    for _ in 0..60 {
        let works: Vec<_> = (0..1 + pick(8))
            .map(|index| {
                let length = 1 + pick(3);
                let output = match pick(4) {
                    0 => Output::None,
                    1 => Output::Drafted { drafts: pick(length) },
                    _ => Output::Candidates { temperature: 1.0, chances: &chances[..1 + pick(length)] },
                };
                work(index as u64, 0, &texts[index][..length], &pages[index], output)
            })
            .collect();
        step(&mut engine, &weights, &works).unwrap();
        let rows: usize = works.iter().map(|item| item.tokens.len()).sum();
        sizes.insert(if rows <= 8 { rows } else { rows.next_multiple_of(8) });
    }
    // The first time there is none yet, the second time it is made.
    let without = device.lists_without_graph();
    assert!(without <= 2 * sizes.len(), "{without} of 60 steps had no graph, for {} sizes", sizes.len());
}

#[test]
fn works_that_do_not_fit_are_rejected_and_change_nothing() {
    let model = model("gpu-misfits");
    let mut engine = engine(&model, BF16, 64);
    let weights = load(&engine, &model);
    let prompt = tokens(1, TOKENS);
    let (own, other) = (pages_of(0), pages_of(1));
    step(&mut engine, &weights, &[work(1, 0, &prompt[..20], &own, Output::None)]).unwrap();
    let before = engine.usage();
    assert_eq!((before.sequences, before.written_pages, before.total_pages), (1, 2, 64));
    for (item, part) in [
        (work(2, 3, &prompt[..1], &other, Output::None), "0 tokens are held"),
        (work(2, 0, &prompt[..17], &other[..1], Output::None), "too few for 17 tokens"),
        (work(2, 0, &prompt[..1], &[64], Output::None), "page 64 is not one of the 64 pages"),
        (work(2, 0, &[99], &other, Output::None), "token 99 is not in the vocabulary"),
    ] {
        match step(&mut engine, &weights, &[item]) {
            Err(Fault::Step(StepError::Misfit(message))) => assert!(message.contains(part), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(engine.usage(), before);
    engine.drop_sequence(&weights, 1);
    assert_eq!(engine.usage().sequences, 0);
}
