//! Tests on a device: the one of the software driver (`tests/software-cuda`), or a card. Without either they do nothing, unless
//! COPAL_GPU asks for a device of CUDA.

use super::context::{Owned, lock};
use super::kernels::Signature;
use super::{Cuda, Kernel, cache, devices};
use crate::device::{self, BufferUse, Command, DeviceDescription};
use crate::fault::DeviceFault;
use cudarc::driver::result::primary_ctx;
use cudarc::driver::sys::{self, CUmodule, CUresult};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

/// `to[i] += factor · from[i]` for a number of floats; the call is the number and the factor.
const ADD: &str = r#"
extern "C" __global__ void __launch_bounds__(64) add(
    const unsigned* step, unsigned call, const float* from, float* to) {
  unsigned at = blockIdx.x * 64 + threadIdx.x;
  if (at < step[call]) to[at] += step[call + 1] * from[at];
}
"#;
/// Words from one call to the next.
const CALL_WORDS: usize = 64;

fn description() -> Option<DeviceDescription> {
    let found = devices().into_iter().next();
    let is_wanted = std::env::var("COPAL_GPU").is_ok_and(|name| name.to_lowercase().contains("cuda"));
    assert!(found.is_some() || !is_wanted, "COPAL_GPU names a device that does not exist");
    found
}

/// An open device, and the kernel `add`.
struct Device {
    cuda: Cuda,
    add: device::Kernel,
}

impl Device {
    /// `None` without a device.
    fn open() -> Option<Device> {
        let cuda = Cuda::open(&description()?).unwrap();
        let add = device::Kernel::Cuda(kernel(&cuda, &module(&cuda, ADD).unwrap()));
        Some(Device { cuda, add })
    }

    fn floats(&self, floats: &[f32]) -> device::Buffer {
        let words: Vec<u32> = floats.iter().map(|value| value.to_bits()).collect();
        let buffer = self.cuda.allocate("a test", 4 * words.len() as u64, BufferUse::Work).unwrap();
        self.cuda.upload_at(&buffer, 0, &words).unwrap();
        device::Buffer::Cuda(buffer)
    }

    fn zeros(&self, count: usize) -> device::Buffer {
        let buffer = self.cuda.allocate("a test", 4 * count as u64, BufferUse::Work).unwrap();
        device::Buffer::Cuda(buffer)
    }

    fn read(&self, buffer: &device::Buffer, count: usize) -> Vec<f32> {
        self.cuda.run_step(None, &[], Some((buffer.cuda(), count))).unwrap()
    }

    /// The data of calls of `add`.
    fn calls(&self, calls: &[(usize, u32)]) -> Vec<u32> {
        let mut words = Vec::new();
        for &(count, factor) in calls {
            words.extend([count as u32, factor]);
            words.resize(words.len().next_multiple_of(CALL_WORDS), 0);
        }
        words
    }

    fn run(&self, upload: (&device::Buffer, &[u32]), commands: &[Command<'_>]) -> Result<(), DeviceFault> {
        let (buffer, words) = upload;
        self.cuda.run_step(Some((buffer.cuda(), words)), commands, None).map(drop)
    }

    /// Runs `add` eight times.
    fn double(
        &self,
        (pair, step_bound): (&device::Bound, &device::Bound),
        step: &device::Buffer,
    ) -> Result<(), DeviceFault> {
        let run = || Command::Run { kernel: &self.add, call: (step_bound, 0), bound: pair, groups: (1, 1) };
        let commands: Vec<_> = (0..8).map(|_| run()).collect();
        self.run((step, &self.calls(&[(64, 1)])), &commands)
    }

    fn graphs(&self) -> usize {
        lock(&self.cuda.state).graphs.len()
    }
}

fn module(cuda: &Cuda, source: &str) -> Result<Arc<Owned<CUmodule>>, DeviceFault> {
    let target = cuda.nvrtc.target(cuda.capability)?;
    cuda.module(source, target, &[target.option()]).map(Arc::new)
}

fn kernel(cuda: &Cuda, module: &Arc<Owned<CUmodule>>) -> Kernel {
    let signature = Signature { name: "add".to_owned(), threads: 64, buffers: 2, has_call: true };
    cuda.kernel(module, signature).unwrap()
}

fn bound(buffers: &[&device::Buffer]) -> device::Bound {
    device::Bound::Cuda(super::Bound::new(buffers.iter().map(|buffer| buffer.cuda())))
}

/// Runs a test in a process of its own, because what it does to the driver would reach other tests.
fn alone(name: &str, environment: &[(&str, PathBuf)], test: impl FnOnce()) {
    if std::env::var_os("COPAL_TEST_ALONE").is_some() {
        return test();
    }
    let name = format!("device::cuda::tests::{name}");
    let mut command = process::Command::new(std::env::current_exe().unwrap());
    command.args([&name, "--exact", "--nocapture"]).env("COPAL_TEST_ALONE", "1");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// A function of the software driver for tests; `None` for others.
fn injection<F: Copy>(name: &str) -> Option<F> {
    // SAFETY: the caller gives the type of the function.
    unsafe { sys::culib().get::<F>(name.as_bytes()) }.ok().map(|function| *function)
}

#[test]
fn devices_have_memory_and_say_what_they_are() {
    let Some(device) = description() else { return };
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
    let found = device.cuda.run_step(Some((step.cuda(), &words)), &commands, Some((to.cuda(), 100))).unwrap();
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
        let found = device.cuda.run_step(Some((step.cuda(), &words)), &commands, Some((to.cuda(), 64)));
        expected += 10.0 * round as f32;
        assert_eq!(found.unwrap(), [expected; 64]);
        assert_eq!(device.graphs(), graphs, "round {round}");
    }
    // Few commands are never a graph.
    (0..3).for_each(|_| device.run((&step, &device.calls(&[(64, 0)])), &commands[..3]).unwrap());
    assert_eq!(device.graphs(), 1);
}

#[test]
fn the_graph_of_freed_buffers_is_not_used_for_others_at_their_addresses() {
    let Some(device) = Device::open() else { return };
    let (from, step) = (device.floats(&[1.0; 64]), device.zeros(64));
    let (step_bound, words) = (bound(&[&step]), device.calls(&[(64, 1)]));
    let mut addresses = Vec::new();
    for round in 1..=3 {
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
        assert_eq!(device.graphs(), round);
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
fn a_buffer_beyond_the_memory_is_an_error_and_the_device_goes_on() {
    let Some(device) = Device::open() else { return };
    let bytes = device.cuda.description().memory_bytes.unwrap();
    for bytes in [bytes + 16, u64::MAX, u64::MAX - 16] {
        match device.cuda.allocate("the pages", bytes, BufferUse::Work).err() {
            Some(DeviceFault::OutOfMemory(what)) => assert!(what.starts_with("the pages"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
    let first = device.cuda.allocate("a half", bytes / 4 * 3, BufferUse::Work);
    let second = device.cuda.allocate("another half", bytes / 4 * 3, BufferUse::Work);
    assert!(first.is_err() || second.is_err());
    for fault in [first.err(), second.err()].into_iter().flatten() {
        assert!(matches!(fault, DeviceFault::OutOfMemory(_)), "{fault:?}");
    }
    assert_eq!(device.read(&device.floats(&[3.0; 4]), 4), [3.0; 4]);
}

#[test]
fn a_device_that_a_test_lost_is_lost_for_its_owner_alone() {
    let (Some(lost), Some(other)) = (Device::open(), Device::open()) else { return };
    let buffer = lost.zeros(4);
    lost.cuda.lose();
    let faults = [
        lost.cuda.check().err(),
        lost.cuda.allocate("a test", 16, BufferUse::Work).err(),
        lost.cuda.upload_at(buffer.cuda(), 0, &[1]).err(),
        lost.cuda.run_step(None, &[], None).err(),
        module(&lost.cuda, ADD).err(),
    ];
    assert!(faults.iter().all(|fault| matches!(fault, Some(DeviceFault::Lost(_)))), "{faults:?}");
    drop((lost, buffer));
    assert_eq!(other.read(&other.floats(&[2.0; 4]), 4), [2.0; 4]);
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

#[test]
fn a_broken_context_is_reset_when_the_device_is_opened_again() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    alone("a_broken_context_is_reset_when_the_device_is_opened_again", &[], || {
        let fail: unsafe extern "C" fn(CUresult) = injection("softwareCudaFail").unwrap();
        // As a library of the same process may hold it: then the context outlives all that is open here.
        // SAFETY: the driver has this device.
        unsafe { primary_ctx::retain(0) }.unwrap();
        let (first, second) = (Device::open().unwrap(), Device::open().unwrap());
        let (large, step) = (first.floats(&[1.0; 64]), first.zeros(64));
        let (pair, step_bound) = (bound(&[&large, &large]), bound(&[&step]));
        (0..3).for_each(|_| first.double((&pair, &step_bound), &step).unwrap());
        // SAFETY: as the software driver declares it.
        unsafe { fail(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS) };
        for _ in 0..2 {
            match first.double((&pair, &step_bound), &step).err() {
                Some(DeviceFault::Lost(reason)) => {
                    assert!(reason.starts_with("CUDA_ERROR_ILLEGAL_ADDRESS: "), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
        // All share the context.
        assert!(matches!(second.cuda.check(), Err(DeviceFault::Lost(_))));
        assert!(matches!(second.cuda.allocate("a test", 16, BufferUse::Work), Err(DeviceFault::Lost(_))));
        // While others still have it open.
        let third = Device::open().unwrap();
        let (buffer, other_step) = (third.floats(&[1.0; 64]), third.zeros(64));
        let (other_pair, other_bound) = (bound(&[&buffer, &buffer]), bound(&[&other_step]));
        drop((large, step, pair, step_bound, first, second));
        third.double((&other_pair, &other_bound), &other_step).unwrap();
        assert_eq!(third.read(&buffer, 64), [256.0; 64]);
        // SAFETY: as above.
        unsafe { fail(CUresult::CUDA_ERROR_LAUNCH_FAILED) };
        assert!(third.double((&other_pair, &other_bound), &other_step).is_err());
        drop((buffer, other_step, other_pair, other_bound, third));
        let fourth = Device::open().unwrap();
        assert_eq!(fourth.read(&fourth.floats(&[2.0; 64]), 64), [2.0; 64]);
    });
}

#[test]
fn a_device_can_be_opened_again_while_steps_and_loads_fail() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    alone("a_device_can_be_opened_again_while_steps_and_loads_fail", &[], || {
        let fail: unsafe extern "C" fn(CUresult) = injection("softwareCudaFail").unwrap();
        let mut device = Device::open().unwrap();
        for _ in 0..10 {
            let (broken, next) = std::thread::scope(|scope| {
                let broken = &device;
                let steps = scope.spawn(move || {
                    let (to, step) = (broken.floats(&[1.0; 64]), broken.zeros(64));
                    let (pair, step_bound) = (bound(&[&to, &to]), bound(&[&step]));
                    // SAFETY: as the software driver declares it.
                    unsafe { fail(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS) };
                    while broken.double((&pair, &step_bound), &step).is_ok() {}
                });
                let loads = scope.spawn(move || {
                    let words = vec![1; 1 << 20];
                    while let Ok(buffer) = broken.cuda.allocate("a test", 4 << 20, BufferUse::Work) {
                        if broken.cuda.upload_at(&buffer, 0, &words).is_err() {
                            break;
                        }
                    }
                });
                while broken.cuda.check().is_ok() {
                    std::thread::yield_now();
                }
                let next = Device::open().unwrap();
                assert_eq!(next.read(&next.floats(&[7.0; 64]), 64), [7.0; 64]);
                (steps.join().and(loads.join()), next)
            });
            broken.unwrap();
            device = next;
        }
    });
}

#[test]
fn a_missing_compiler_is_named_with_what_to_do() {
    let Some(description) = description().filter(|device| device.kind == "software") else { return };
    let library = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let library = std::env::split_paths(&library).map(|folder| folder.join("libcuda.so.1"));
    let library = library.into_iter().find(|path| path.exists()).expect("the driver of the tests is there");
    let folder = std::env::temp_dir().join(format!("copal-cuda-driver-alone-{}", process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    drop(std::fs::copy(library, folder.join("libcuda.so.1")));
    let environment = [("LD_LIBRARY_PATH", folder.clone())];
    alone("a_missing_compiler_is_named_with_what_to_do", &environment, || {
        match Cuda::open(&description).err() {
            Some(DeviceFault::Unavailable(reason)) => {
                assert!(reason.contains("libnvrtc") && reason.contains("pip install"), "{reason}");
                assert!(reason.contains("COPAL_GPU=vulkan"), "{reason}");
            }
            // Installed for the whole system.
            None => {}
            other => panic!("{other:?}"),
        }
    });
    if std::env::var_os("COPAL_TEST_ALONE").is_none() {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn without_a_driver_there_are_no_devices() {
    let environment = [("LD_LIBRARY_PATH", PathBuf::new()), ("COPAL_GPU", PathBuf::new())];
    alone("without_a_driver_there_are_no_devices", &environment, || {
        assert!(devices().iter().all(|device| device.kind != "software"));
    });
}
