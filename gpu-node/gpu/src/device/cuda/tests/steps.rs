//! Memory, compiled code and commands.

use super::{ADD, CALL_WORDS, Device, bound, card, kernel, module};
use crate::device::cuda::{cache, can_compile};
use crate::device::{self, Command};
use crate::fault::DeviceFault;
use std::process;
use std::time::Duration;

#[test]
fn devices_have_memory_and_say_what_they_are() {
    let Some(card) = card() else { return };
    assert!(can_compile(&card));
    let device = card.description;
    assert_eq!(device.api, "cuda");
    assert!(["discrete", "integrated", "software"].contains(&device.kind), "{device:?}");
    assert_eq!(device.kind == "software", device.name == "software CUDA", "{device:?}");
    assert!(device.driver.starts_with("NVIDIA CUDA 1"), "{device:?}");
    assert!(device.driver.contains(" compute capability "), "{device:?}");
    assert_eq!(device.memory_bytes, Some(device.max_binding_bytes));
}

#[test]
fn buffers_are_zeroed_and_take_uploads_of_many_pieces_at_any_word() {
    let Some(device) = Device::open() else { return };
    let count = (9 << 20) / 4 + 1;
    let buffer = device.zeros(count + 5);
    assert_eq!(buffer.size(), (4 * (count + 5) as u64).next_multiple_of(16));
    assert!(device.read(&buffer, count + 5).iter().all(|&value| value == 0.0));
    let words: Vec<u32> = (0..count).map(|index| (index as f32).to_bits()).collect();
    device.cuda.upload_at(buffer.cuda(), 16, &words).unwrap();
    let found = device.read(&buffer, count + 5);
    assert!(found[..4].iter().all(|&value| value == 0.0));
    assert!(found[4..4 + count].iter().enumerate().all(|(index, &value)| value == index as f32));
    assert_eq!(found[count + 4], 0.0);
    device.cuda.upload_at(buffer.cuda(), 0, &[]).unwrap();
    assert_eq!(device.zeros(0).size(), 16);
}

#[test]
fn commands_run_in_order_with_their_calls() {
    let Some(device) = Device::open() else { return };
    let from = device.floats(&(0..100).map(|index| index as f32).collect::<Vec<_>>());
    let (to, copy, step) = (device.floats(&[1.0; 100]), device.floats(&[5.0; 100]), device.zeros(128));
    let (pair, step_bound) = (bound(&[&from, &to]), bound(&[&step]));
    let run = |call: usize, groups| Command::Run {
        kernel: &device.add,
        call: (&step_bound, (4 * CALL_WORDS * call) as u32),
        bound: &pair,
        groups,
    };
    let words = device.calls(&[(100, 2), (70, 10)]);
    let commands = [
        run(0, (2, 1)),
        // Nothing to do.
        run(0, (0, 1)),
        Command::Clear(&copy),
        Command::Copy { from: (&to, 40), to: (&copy, 80), bytes: 120 },
        Command::Copy { from: (&to, 0), to: (&copy, 0), bytes: 0 },
        run(1, (1, 1)),
    ];
    let found =
        device.cuda.run_lists(Some((step.cuda(), &words)), &[&commands], Some((to.cuda(), 100))).unwrap();
    for (index, &value) in found.iter().enumerate() {
        let factor = if index < 64 { 12.0 } else { 2.0 };
        assert_eq!(value, 1.0 + factor * index as f32, "{index}");
    }
    for (index, &value) in device.read(&copy, 100).iter().enumerate() {
        let expected = if (20..50).contains(&index) { 1.0 + 2.0 * (index - 10) as f32 } else { 0.0 };
        assert_eq!(value, expected, "{index}");
    }
}

#[test]
fn a_list_that_repeats_becomes_a_graph_that_reads_each_steps_data() {
    let Some(device) = Device::open() else { return };
    let (from, to, step) = (device.floats(&[1.0; 64]), device.zeros(64), device.zeros(64));
    let (pair, step_bound) = (bound(&[&from, &to]), bound(&[&step]));
    let run = || Command::Run { kernel: &device.add, call: (&step_bound, 0), bound: &pair, groups: (1, 1) };
    let commands: Vec<_> = (0..10).map(|_| run()).collect();
    let mut expected = 0.0;
    for (round, graphs) in [(1, 0), (2, 1), (3, 1), (4, 1)] {
        let words = device.calls(&[(64, round)]);
        let found = device.cuda.run_lists(Some((step.cuda(), &words)), &[&commands], Some((to.cuda(), 64)));
        expected += 10.0 * round as f32;
        assert_eq!(found.unwrap(), [expected; 64]);
        assert_eq!(device.graphs(), graphs, "round {round}");
    }
    // Few commands are never a graph.
    (0..3).for_each(|_| device.run((&step, &device.calls(&[(64, 0)])), &commands[..3]).unwrap());
    assert_eq!(device.graphs(), 1);
}

#[test]
fn the_graph_of_freed_buffers_is_destroyed_and_not_used_for_others_at_their_addresses() {
    let Some(device) = Device::open() else { return };
    let (from, step) = (device.floats(&[1.0; 64]), device.zeros(64));
    let (step_bound, words) = (bound(&[&step]), device.calls(&[(64, 1)]));
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let to = device.zeros(64);
        addresses.push(to.cuda().address());
        let pair = bound(&[&from, &to]);
        let run =
            || Command::Run { kernel: &device.add, call: (&step_bound, 0), bound: &pair, groups: (1, 1) };
        let commands: Vec<_> = (0..8).map(|_| run()).collect();
        for repetition in 1..=3 {
            device.run((&step, &words), &commands).unwrap();
            assert_eq!(device.read(&to, 64), [8.0 * repetition as f32; 64]);
        }
        assert_eq!(device.graphs(), 1);
    }
    println!("addresses {addresses:x?}");
}

#[test]
fn bindings_hold_their_buffers() {
    let Some(device) = Device::open() else { return };
    let (from, to, step) = (device.floats(&[1.0; 64]), device.zeros(64), device.zeros(64));
    let (pair, step_bound) = (bound(&[&from, &to]), bound(&[&step]));
    drop(from);
    let others: Vec<_> = (0..20).map(|_| device.floats(&[9.0; 64])).collect();
    let run = Command::Run { kernel: &device.add, call: (&step_bound, 0), bound: &pair, groups: (1, 1) };
    device.run((&step, &device.calls(&[(64, 1)])), &[run]).unwrap();
    assert_eq!(device.read(&to, 64), [1.0; 64]);
    drop(others);
}

#[test]
fn uploads_run_beside_steps() {
    let Some(device) = Device::open() else { return };
    let (from, to, step) = (device.floats(&[1.0; 64]), device.zeros(64), device.zeros(64));
    let (pair, step_bound, words) = (bound(&[&from, &to]), bound(&[&step]), device.calls(&[(64, 1)]));
    let run = || Command::Run { kernel: &device.add, call: (&step_bound, 0), bound: &pair, groups: (1, 1) };
    let commands: Vec<_> = (0..8).map(|_| run()).collect();
    std::thread::scope(|scope| {
        for thread in 1..=2 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..4 {
                    let value = (10 * thread + round) as f32;
                    let buffer = device.floats(&vec![value; 2 << 20]);
                    assert!(device.read(&buffer, 2 << 20).iter().all(|&found| found == value));
                }
            });
        }
        for round in 1..=20 {
            device.run((&step, &words), &commands).unwrap();
            assert_eq!(device.read(&to, 64), [8.0 * round as f32; 64]);
        }
    });
}

#[test]
fn memory_is_allocated_and_freed_beside_a_step() {
    let Some(device) = Device::open() else { return };
    // Waits for a float that is not zero, for a bounded time, and stores what it found.
    let source = r#"
extern "C" __global__ void __launch_bounds__(64) add(
    const unsigned* step, unsigned call, const float* from, float* to) {
  if (threadIdx.x) return;
  const volatile float* flag = from;
  for (unsigned turn = 0; turn < 1u << 28 && *flag == 0; turn++) {}
  to[0] = *flag;
}
"#;
    let wait = device::Kernel::Cuda(kernel(&device.cuda, &module(&device.cuda, source).unwrap()));
    let (flag, to, step) = (device.zeros(64), device.zeros(64), device.zeros(64));
    let other = device.zeros(64);
    let (pair, step_bound) = (bound(&[&flag, &to]), bound(&[&step]));
    std::thread::scope(|scope| {
        let steps = scope.spawn(|| {
            let run = Command::Run { kernel: &wait, call: (&step_bound, 0), bound: &pair, groups: (1, 1) };
            device.run((&step, &device.calls(&[(64, 1)])), &[run]).unwrap();
        });
        // By then it runs on any machine; if it does not, this test shows nothing.
        std::thread::sleep(Duration::from_millis(200));
        drop(other);
        drop(device.zeros(64));
        device.cuda.upload_at(flag.cuda(), 0, &[1.0_f32.to_bits()]).unwrap();
        steps.join().unwrap();
    });
    assert_eq!(device.read(&to, 1), [1.0], "the step ended before the memory was freed");
}

#[test]
fn commands_that_do_not_fit_their_buffers_panic_before_anything_runs() {
    let Some(device) = Device::open() else { return };
    let (small, large, step) = (device.zeros(4), device.floats(&[1.0; 64]), device.zeros(64));
    let (pair, single, step_bound) = (bound(&[&large, &large]), bound(&[&large]), bound(&[&step]));
    let run =
        |bound, call| Command::Run { kernel: &device.add, call: (&step_bound, call), bound, groups: (1, 1) };
    let copy = |from, to, bytes| Command::Copy { from: (&large, from), to: (&small, to), bytes };
    let bad = [
        run(&single, 0),
        run(&pair, 256),
        run(&pair, 2),
        copy(0, 0, 20),
        copy(252, 0, 8),
        copy(u64::MAX, 0, 8),
    ];
    for command in bad {
        let commands = [Command::Clear(&large), command];
        let run = || device.run((&step, &device.calls(&[(64, 1)])), &commands);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
    assert_eq!(device.read(&large, 64), [1.0; 64]);
}

#[test]
fn compiled_code_is_kept_and_broken_files_are_compiled_again() {
    let Some(mut device) = Device::open() else { return };
    let folder = std::env::temp_dir().join(format!("copal-cuda-compiled-{}", process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    device.cuda.cache = Some(folder.clone());
    let file = || std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    kernel(&device.cuda, &module(&device.cuda, ADD).unwrap());
    let whole = std::fs::read(file()).unwrap();
    std::fs::write(file(), &whole[..whole.len() / 2]).unwrap();
    kernel(&device.cuda, &module(&device.cuda, ADD).unwrap());
    assert_eq!(std::fs::read(file()).unwrap().len(), whole.len());
    // Code that the driver does not take.
    let key = String::from_utf8_lossy(&whole).into_owned();
    let key = &key[key.find("NVRTC").unwrap()..];
    let key = &key[..key.rfind(ADD).unwrap() + ADD.len()];
    assert!(cache::read(&folder, key).is_some());
    cache::write(&folder, key, b"not code").unwrap();
    kernel(&device.cuda, &module(&device.cuda, ADD).unwrap());
    assert!(cache::read(&folder, key).unwrap().len() > 100);
    match module(&device.cuda, "not C++").err() {
        Some(DeviceFault::Unavailable(reason)) => assert!(reason.contains("copal.cu"), "{reason}"),
        other => panic!("{other:?}"),
    }
    std::fs::remove_dir_all(folder).unwrap();
}
