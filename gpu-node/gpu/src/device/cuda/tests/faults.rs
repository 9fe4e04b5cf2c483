//! Devices that are full, lost or missing.

use super::{ADD, Device, bound, card, description, module};
use crate::device;
use crate::device::cuda::calls::{self, written};
use crate::device::cuda::context::SLEEP_WHILE_WAITING;
use crate::device::cuda::nvrtc::Nvrtc;
use crate::device::cuda::{Card, Cuda, can_compile, cannot_open, cards, open_context};
use crate::fault::DeviceFault;
use cudarc::driver::sys::{self, CUresult};
use std::path::PathBuf;
use std::process;

/// Runs a test in a process of its own, because what it does to the driver would reach other tests.
fn alone(name: &str, environment: &[(&str, PathBuf)], test: impl FnOnce()) {
    if std::env::var_os("TEST_ALONE").is_some() {
        return test();
    }
    let name = format!("device::cuda::tests::faults::{name}");
    let mut command = process::Command::new(std::env::current_exe().unwrap());
    command.args([&name, "--exact", "--nocapture"]).env("TEST_ALONE", "1");
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

/// The path of a library of software CUDA.
fn software_library(name: &str) -> PathBuf {
    let folders = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    paths.find(|path| path.exists()).expect("the libraries of the tests are there")
}

#[test]
fn buffers_beyond_the_memory_are_errors_and_the_device_goes_on() {
    let Some(device) = Device::open() else { return };
    let bytes = device.cuda.description().memory_bytes.unwrap();
    for bytes in [bytes + 16, u64::MAX, u64::MAX - 16] {
        match device.cuda.allocate("the pages", bytes).err() {
            Some(DeviceFault::OutOfMemory(what)) => assert!(what.starts_with("the pages"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(device.read(&device.floats(&[3.0; 4]), 4), [3.0; 4]);
}

#[test]
fn a_full_device_goes_on() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    let environment = [("SOFTWARE_CUDA_BYTES", PathBuf::from("67108864"))];
    alone("a_full_device_goes_on", &environment, || {
        let device = Device::open().unwrap();
        let allocate = || device.cuda.allocate("a weight", 20 << 20);
        let mut buffers: Vec<_> = (0..3).map(|_| allocate().unwrap()).collect();
        assert_eq!(allocate().err(), Some(DeviceFault::OutOfMemory("a weight".to_owned())));
        assert_eq!(device.read(&device.floats(&[3.0; 4]), 4), [3.0; 4]);
        drop(buffers.pop());
        allocate().unwrap();
    });
}

#[test]
fn a_device_that_a_test_lost_is_lost_for_its_owner_alone() {
    let (Some(lost), Some(other)) = (Device::open(), Device::open()) else { return };
    let buffer = lost.zeros(4);
    lost.cuda.lose();
    let faults = [
        lost.cuda.check().err(),
        lost.cuda.allocate("a test", 16).err(),
        lost.cuda.upload_at(buffer.cuda(), 0, &[1]).err(),
        lost.cuda.run_lists(None, &[], None).err(),
        module(&lost.cuda, ADD).err(),
    ];
    assert!(faults.iter().all(|fault| matches!(fault, Some(DeviceFault::Lost(_)))), "{faults:?}");
    drop((lost, buffer));
    assert_eq!(other.read(&other.floats(&[2.0; 4]), 4), [2.0; 4]);
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
        unsafe { written(|context| calls::cuDevicePrimaryCtxRetain(context, 0)) }.unwrap();
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
        assert!(matches!(second.cuda.allocate("a test", 16), Err(DeviceFault::Lost(_))));
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
fn an_error_that_the_bindings_do_not_know_loses_the_device_and_it_can_be_opened_again() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    alone("an_error_that_the_bindings_do_not_know_loses_the_device_and_it_can_be_opened_again", &[], || {
        let fail: unsafe extern "C" fn(u32) = injection("softwareCudaFail").unwrap();
        let device = Device::open().unwrap();
        let (buffer, step) = (device.floats(&[1.0; 64]), device.zeros(64));
        let (pair, step_bound) = (bound(&[&buffer, &buffer]), bound(&[&step]));
        // SAFETY: as the software driver declares it.
        unsafe { fail(1234) };
        match device.double((&pair, &step_bound), &step).err() {
            Some(DeviceFault::Lost(reason)) => {
                assert_eq!(reason, "error 1234 of CUDA, which the driver does not describe");
            }
            other => panic!("{other:?}"),
        }
        let again = Device::open().unwrap();
        assert_eq!(again.read(&again.floats(&[2.0; 64]), 64), [2.0; 64]);
    });
}

#[test]
fn threads_sleep_while_they_wait_for_the_device_after_a_reset_too() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    alone("threads_sleep_while_they_wait_for_the_device_after_a_reset_too", &[], || {
        let state = || {
            let (mut flags, mut active) = (0, 0);
            // SAFETY: the driver has this device, and the call writes two integers.
            unsafe { sys::cuDevicePrimaryCtxGetState(0, &mut flags, &mut active) }.result().unwrap();
            (flags, active)
        };
        assert_eq!(state(), (0, 0));
        let fail: unsafe extern "C" fn(CUresult) = injection("softwareCudaFail").unwrap();
        for _ in 0..2 {
            let device = Device::open().unwrap();
            assert_eq!(state(), (SLEEP_WHILE_WAITING, 1));
            let (buffer, step) = (device.floats(&[1.0; 64]), device.zeros(64));
            let (pair, step_bound) = (bound(&[&buffer, &buffer]), bound(&[&step]));
            // SAFETY: as the software driver declares it.
            unsafe { fail(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS) };
            assert!(device.double((&pair, &step_bound), &step).is_err());
        }
        assert_eq!(state(), (0, 0));
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
                    while let Ok(buffer) = broken.cuda.allocate("a test", 4 << 20) {
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
    let Some(card) = card().filter(|card| card.description.kind == "software") else { return };
    let library = software_library("libcuda.so.1");
    let folder = std::env::temp_dir().join(format!("copal-cuda-driver-alone-{}", process::id()));
    let is_parent = std::env::var_os("TEST_ALONE").is_none();
    if is_parent {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(library, folder.join("libcuda.so.1")).unwrap();
    }
    let environment = [("LD_LIBRARY_PATH", folder.clone())];
    alone("a_missing_compiler_is_named_with_what_to_do", &environment, || {
        match Cuda::open(card).err() {
            Some(DeviceFault::Unavailable(reason)) => {
                assert!(reason.contains("libnvrtc") && reason.contains("pip install"), "{reason}");
                assert!(reason.contains("COPAL_GPU=vulkan"), "{reason}");
            }
            // Installed for the whole system.
            None => {}
            other => panic!("{other:?}"),
        }
    });
    if is_parent {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_compiler_that_is_too_old_is_named_and_other_drivers_come_first() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    let environment = [("SOFTWARE_CUDA_NVRTC", PathBuf::from("11.8"))];
    alone("a_compiler_that_is_too_old_is_named_and_other_drivers_come_first", &environment, || {
        let card = card().unwrap();
        assert!(!can_compile(&card));
        match Cuda::open(card).err() {
            Some(DeviceFault::Unavailable(reason)) => {
                assert!(reason.contains("NVRTC 11.8") && reason.contains("too old"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        // With a software driver of Vulkan, which most machines for tests have, there are two.
        let last = device::devices().into_iter().rfind(|device| device.kind == "software");
        assert_eq!(last.unwrap().api, "cuda");
    });
}

#[test]
fn a_compiler_whose_code_the_driver_loads_is_taken_where_there_is_a_newer_one() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("copal-cuda-compilers-{}", process::id()));
    let is_parent = std::env::var_os("TEST_ALONE").is_none();
    if is_parent {
        std::fs::create_dir_all(&folder).unwrap();
        let read = |name| std::fs::read(software_library(name)).unwrap();
        std::fs::write(folder.join("libcuda.so.1"), read("libcuda.so.1")).unwrap();
        let (old, mut new) = (read("libnvrtc.so.12"), read("libnvrtc.so.12"));
        // The library's own name tells it from the other one.
        let own_name = b"libnvrtc.so.12";
        let at = new.windows(own_name.len()).position(|bytes| bytes == own_name).unwrap();
        new[at + own_name.len() - 1] = b'3';
        std::fs::write(folder.join("libnvrtc.so.12"), old).unwrap();
        std::fs::write(folder.join("libnvrtc.so.13"), new).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("libnvrtc.so.13", folder.join("libnvrtc.so")).unwrap();
    }
    let name = "a_compiler_whose_code_the_driver_loads_is_taken_where_there_is_a_newer_one";
    alone(name, &[("LD_LIBRARY_PATH", folder.clone())], || {
        let card = card().unwrap();
        assert_eq!(Nvrtc::load(card.driver).unwrap().version(), "12.4");
        assert!(can_compile(&card));
    });
    if is_parent {
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_device_without_memory_for_a_context_is_full_and_not_unavailable() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    let environment = [("SOFTWARE_CUDA_BYTES", PathBuf::from("1000"))];
    alone("a_device_without_memory_for_a_context_is_full_and_not_unavailable", &environment, || {
        let fault = Cuda::open(card().unwrap()).err();
        assert!(matches!(fault, Some(DeviceFault::OutOfMemory(_))), "{fault:?}");
    });
}

#[test]
fn other_drivers_come_before_one_that_does_not_load_the_code_of_the_compiler() {
    if description().is_none_or(|device| device.kind != "software") {
        return;
    }
    let name = "other_drivers_come_before_one_that_does_not_load_the_code_of_the_compiler";
    alone(name, &[("SOFTWARE_CUDA_NVRTC", PathBuf::from("13.0"))], || {
        assert!(!can_compile(&card().unwrap()));
    });
}

#[test]
fn a_device_that_cannot_be_opened_is_named_with_what_to_do() {
    if description().is_none() {
        return;
    }
    let fault = open_context(99).err().unwrap();
    match cannot_open("a card", fault) {
        DeviceFault::Unavailable(reason) => {
            let start = "a card cannot be opened by CUDA: CUDA_ERROR_INVALID_DEVICE: ";
            assert!(reason.starts_with(start) && reason.contains("COPAL_GPU=vulkan"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_card_is_opened_itself_and_not_another_one_of_its_name() {
    let Some(card) = card() else { return };
    match Cuda::open(Card { device: 99, ..card }).err() {
        Some(DeviceFault::Unavailable(reason)) => {
            assert!(reason.contains("CUDA_ERROR_INVALID_DEVICE"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_driver_there_are_no_devices() {
    let environment = [("LD_LIBRARY_PATH", PathBuf::new()), ("COPAL_GPU", PathBuf::new())];
    alone("without_a_driver_there_are_no_devices", &environment, || {
        assert!(cards().iter().all(|card| card.description.kind != "software"));
    });
}
