//! Finds the library of NVIDIA's compiler.
//!
//! A machine may have several: one of a toolkit that is newer than the driver, or older than what is needed, beside the one that
//! somebody installed for this program.

use libloading::Library;
use std::ffi::c_int;
use std::sync::OnceLock;

/// The oldest version of the compiler: drivers as new as it are required, too.
pub(super) const MIN_VERSION: (c_int, c_int) = (12, 0);
/// The newest major version that is looked for by its name.
const MAX_MAJOR: c_int = 13;

static LIBRARY: OnceLock<Library> = OnceLock::new();

/// The library.
///
/// # Panics
/// If it was not loaded by [`load`].
pub(super) fn library() -> &'static Library {
    LIBRARY.get().expect("the compiler is loaded before it is called")
}

/// Loads the library once, for a version of the driver: the first one whose code the driver loads, else the first one that
/// there is. Returns whether there is one.
pub(super) fn load(driver: c_int) -> bool {
    if LIBRARY.get().is_some() {
        return true;
    }
    let mut other: Option<Library> = None;
    for name in names() {
        // SAFETY: NVIDIA's library does nothing when it is loaded.
        let Ok(library) = (unsafe { Library::new(name) }) else { continue };
        if version(&library).is_some_and(|version| suits(version, driver)) {
            let _ = LIBRARY.set(library);
            return true;
        }
        other = other.or(Some(library));
    }
    if let Some(library) = other {
        let _ = LIBRARY.set(library);
    }
    LIBRARY.get().is_some()
}

/// Whether a driver loads the code of a version of the compiler: of its own major version or an earlier one.
pub(super) fn suits(version: (c_int, c_int), driver: c_int) -> bool {
    version >= MIN_VERSION && version.0 <= driver / 1000
}

fn version(library: &Library) -> Option<(c_int, c_int)> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> u32;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the function has this type in every version of the library, and writes two integers.
    let result = unsafe { library.get::<Version>(b"nvrtcVersion").ok()?(&mut major, &mut minor) };
    (result == 0).then_some((major, minor))
}

/// The names of the library, that of a toolkit first, then the newest.
fn names() -> Vec<String> {
    let majors = (MIN_VERSION.0..=MAX_MAJOR).rev();
    if cfg!(windows) {
        return majors.map(|major| format!("nvrtc64_{major}0_0.dll")).collect();
    }
    let versioned = majors.map(|major| format!("libnvrtc.so.{major}"));
    ["libnvrtc.so".to_owned()].into_iter().chain(versioned).collect()
}
