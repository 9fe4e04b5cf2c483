//! Devices that are lost or full, and weight sets that come and go.

use crate::support::native::model::model;
use crate::support::{BF16, bits, engine, load, open, pages_of, step, tokens, work};
use copal_gpu::device::{Gpu, devices};
use copal_gpu::engine::{Engine, EngineOptions, Fault, Forms, LoadError, LoadFault, ModelConfig, Output};
use copal_gpu::fault::DeviceFault;
use copal_gpu::layout::Form;

#[test]
fn a_lost_device_fails_steps_and_loads_and_another_engine_goes_on() {
    let model = model("gpu-lost");
    let (mut lost, mut other) = (engine(&model, BF16, 64), engine(&model, BF16, 64));
    let (lost_weights, weights) = (load(&lost, &model), load(&other, &model));
    let (prompt, pages) = (tokens(1, 20), pages_of(0));
    let item = || work(1, 0, &prompt, &pages, Output::Logits);
    step(&mut lost, &lost_weights, &[item()]).unwrap();
    lost.gpu().lose();
    for _ in 0..2 {
        match step(&mut lost, &lost_weights, &[item()]) {
            Err(Fault::Device(DeviceFault::Lost(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    match lost.library().load(&model.other, 1).err() {
        Some(LoadFault::Device(DeviceFault::Lost(_))) => {}
        other => panic!("{other:?}"),
    }
    drop((lost_weights, lost));
    step(&mut other, &weights, &[item()]).unwrap();
    assert!(other.logits(0).unwrap().iter().all(|logit| logit.is_finite()));
}

#[test]
fn a_device_that_is_lost_during_steps_fails_one_and_none_hangs() {
    let model = model("gpu-lost-during");
    let mut engine = engine(&model, BF16, 64);
    let weights = load(&engine, &model);
    let (prompt, pages) = (tokens(1, 40), pages_of(0));
    let gpu = std::sync::Arc::clone(engine.gpu());
    let fault = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(30));
            gpu.lose();
        });
        loop {
            if let Err(fault) = step(&mut engine, &weights, &[work(1, 0, &prompt, &pages, Output::Logits)]) {
                return fault;
            }
        }
    });
    assert!(matches!(fault, Fault::Device(DeviceFault::Lost(_))), "{fault:?}");
}

#[test]
fn devices_have_names_and_unknown_ones_are_rejected_with_the_known_ones() {
    let known = devices();
    let name = known.first().expect("tests need a device").name.clone();
    assert!(known.iter().all(|device| device.max_binding_bytes > 0));
    assert_eq!(Gpu::open(Some(&name.to_uppercase())).unwrap().description().name, name);
    match Gpu::open(Some("no such card")).err() {
        Some(DeviceFault::Unavailable(reason)) => assert!(reason.contains(&name), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_pages_than_the_device_takes_and_heads_that_are_too_wide_are_rejected_at_the_start() {
    let model = model("gpu-sizes");
    let new = |config: &ModelConfig, pages| {
        let options = EngineOptions { forms: BF16, pages, batch_tokens: 8 };
        Engine::new(config.clone(), open(), &options).err().unwrap()
    };
    let fault = new(&model.config, 1 << 24);
    assert!(matches!(fault, Fault::Pages(_, DeviceFault::OutOfMemory(_))), "{fault:?}");
    assert!(fault.to_string().contains("give the cache fewer tokens"), "{fault}");
    let wide = ModelConfig { head_dim: 258, rope: vec![1.0; 129], ..model.config.clone() };
    assert!(matches!(new(&wide, 4), Fault::Model(_)));
}

#[test]
fn sets_share_what_no_mask_changes_and_give_their_memory_back() {
    let model = model("gpu-share");
    let mut engine = engine(&model, BF16, 64);
    let first = load(&engine, &model);
    let alone = engine.memory().weights;
    let second = engine.library().load(&model.other, 2).unwrap();
    let both = engine.memory().weights;
    // The embedding, which is the head too, is not loaded again.
    assert!(both > alone && both < 2 * alone, "{alone} and {both} bytes");
    let (prompt, pages) = (tokens(3, 30), pages_of(0));
    let mut logits = |weights| {
        step(&mut engine, weights, &[work(1, 0, &prompt, &pages, Output::Logits)]).unwrap();
        bits(engine.logits(0).unwrap())
    };
    let expected = [logits(&first), logits(&second)];
    assert_ne!(expected[0], expected[1]);
    // Loading beside steps changes nothing.
    let library = std::sync::Arc::clone(engine.library());
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| library.load(&model.other, 2).unwrap());
        for _ in 0..3 {
            step(&mut engine, &first, &[work(1, 0, &prompt, &pages, Output::Logits)]).unwrap();
            assert_eq!(bits(engine.logits(0).unwrap()), expected[0]);
        }
        let third = loading.join().unwrap();
        step(&mut engine, &third, &[work(1, 0, &prompt, &pages, Output::Logits)]).unwrap();
        assert_eq!(bits(engine.logits(0).unwrap()), expected[1]);
    });
    drop(second);
    assert_eq!(engine.memory().weights, alone);
    drop(first);
    assert_eq!(engine.memory().weights, 0);
}

#[test]
fn masks_and_weights_that_do_not_fit_are_rejected_by_name() {
    let model = model("gpu-bad-masks");
    let engine = engine(&model, BF16, 64);
    let mut places = model.places.clone();
    let masked = places.linears[9].masked.as_mut().unwrap();
    masked.rule.kept -= 1;
    match engine.library().load(&places, 2).err() {
        Some(LoadFault::Files(LoadError::Mask(message))) => {
            assert!(message.contains("'model.layers.1.self_attn.v_proj.weight' keeps"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    places.mask = None;
    let fault = engine.library().load(&places, 2).err();
    assert!(matches!(fault, Some(LoadFault::Files(LoadError::Places(_)))), "{fault:?}");
    assert_eq!(engine.memory().weights, 0);
}

#[test]
fn integer_forms_stay_near_bf16() {
    let model = model("gpu-integers");
    let (prompt, pages) = (tokens(3, 30), pages_of(0));
    let targets: Vec<i32> = prompt[1..].iter().map(|&token| token as i32).chain([-1]).collect();
    let score = |forms| {
        let mut engine = engine(&model, forms, 64);
        let weights = load(&engine, &model);
        let output = Output::Scores { targets: &targets, alternatives: 0, logits: false };
        step(&mut engine, &weights, &[work(1, 0, &prompt, &pages, output)]).unwrap()
    };
    let expected = score(BF16);
    for (masked, form, tolerance) in [(Form::Int8, Form::Int8, 0.1), (Form::SparseInt4, Form::Int4, 1.5)] {
        let found = score(Forms { masked, dense: form, head: form });
        assert_ne!(bits(&found), bits(&expected));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < tolerance, "{form:?}: {found} for {expected}");
        }
    }
}
