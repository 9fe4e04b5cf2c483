//! Files with compiled code, so that a node does not compile its kernels at every start.
//!
//! A file holds the whole key of its code: the source, the options of the compiler, and the versions of the compiler and
//! of the driver. The name is only a short hash of the key, so a file whose key is another one is no match. A file that
//! is broken is no match either, and is written anew.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The first bytes of a file. The number changes with the layout.
const MAGIC: &[u8] = b"copal-cuda-1\n";

/// The folder for compiled code: `cuda` in the one that the environment variable `COPAL_CACHE` names, by default
/// `~/.cache/copal`, as models are. `None` if there is no home.
pub(super) fn folder() -> Option<PathBuf> {
    let set = std::env::var_os("COPAL_CACHE").filter(|name| !name.is_empty()).map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache").join("copal"));
    Some(set.or_else(home)?.join("cuda"))
}

/// The code of a key, if a whole file has it.
pub(super) fn read(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let path = path(folder, key);
    // Another user's code must not run, in a folder that several may write to. The name is checked first, because opening what
    // is no file may wait; then what was opened, because it may have replaced what was checked.
    let is_own_file = |found: Metadata| found.is_file() && is_own(&found);
    if !fs::symlink_metadata(&path).is_ok_and(is_own_file) {
        return None;
    }
    let mut opened = File::open(path).ok()?;
    if !opened.metadata().is_ok_and(is_own_file) {
        return None;
    }
    let mut file = Vec::new();
    opened.read_to_end(&mut file).ok()?;
    let (found, rest) = take(file.strip_prefix(MAGIC)?)?;
    let (code, rest) = take(rest)?;
    (found == key.as_bytes() && *rest == hash(code).to_le_bytes()).then(|| code.to_vec())
}

/// Writes the code of a key. Only the user can read the file, which replaces an earlier one as a whole.
pub(super) fn write(folder: &Path, key: &str, code: &[u8]) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut builder = fs::DirBuilder::new();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        builder.mode(0o700);
        options.mode(0o600);
    }
    builder.recursive(true).create(folder)?;
    let path = path(folder, key);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{count}.tmp", std::process::id()));
    let size = |bytes: &[u8]| (bytes.len() as u64).to_le_bytes();
    let parts: [&[u8]; 6] =
        [MAGIC, &size(key.as_bytes()), key.as_bytes(), &size(code), code, &hash(code).to_le_bytes()];
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(&parts.concat()))
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Whether a file belongs to the user of this process.
#[cfg(target_os = "linux")]
fn is_own(file: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/task").is_ok_and(|process| process.uid() == file.uid())
}

/// The folder is the user's, and so are its files.
#[cfg(not(target_os = "linux"))]
fn is_own(_: &Metadata) -> bool {
    true
}

fn path(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{:016x}.bin", hash(key.as_bytes())))
}

/// Bytes after their size, and what follows them.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*size)).ok()?)
}

/// The hash of Fowler, Noll and Vo, 64 bits: tells files apart and finds broken ones, and vouches for nothing.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::{path, read, write};
    use std::fs;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("copal-cuda-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn code_is_found_by_its_whole_key_alone() {
        let folder = folder("keys");
        assert_eq!(read(&folder, "key"), None);
        write(&folder, "key", b"code").unwrap();
        assert_eq!(read(&folder, "key").unwrap(), b"code");
        assert_eq!(read(&folder, "other"), None);
        // As if both keys had one hash.
        fs::rename(path(&folder, "key"), path(&folder, "other")).unwrap();
        assert_eq!(read(&folder, "other"), None);
        write(&folder, "other", b"more").unwrap();
        assert_eq!(read(&folder, "other").unwrap(), b"more");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file stays");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_broken_file_is_no_match() {
        let folder = folder("broken");
        write(&folder, "key", b"code").unwrap();
        let whole = fs::read(path(&folder, "key")).unwrap();
        for length in 0..whole.len() {
            fs::write(path(&folder, "key"), &whole[..length]).unwrap();
            assert_eq!(read(&folder, "key"), None, "{length} bytes");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(path(&folder, "key"), &bytes).unwrap();
            assert_eq!(read(&folder, "key"), None, "byte {at}");
        }
        fs::write(path(&folder, "key"), [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(read(&folder, "key"), None);
        write(&folder, "key", b"code").unwrap();
        assert_eq!(read(&folder, "key").unwrap(), b"code");
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_no_match_and_is_replaced() {
        let folder = folder("link");
        write(&folder, "key", b"code").unwrap();
        let (file, target) = (path(&folder, "key"), folder.join("target"));
        fs::rename(&file, &target).unwrap();
        std::os::unix::fs::symlink(&target, &file).unwrap();
        assert_eq!(read(&folder, "key"), None);
        write(&folder, "key", b"more").unwrap();
        assert_eq!(read(&folder, "key").unwrap(), b"more");
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_user_reads_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("mode");
        write(&folder, "key", b"code").unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path(&folder, "key")), 0o600);
        assert_eq!(mode(folder.clone()), 0o700);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_and_not_a_panic() {
        let file = folder("file");
        fs::write(&file, b"").unwrap();
        assert!(write(&file.join("below"), "key", b"code").is_err());
        fs::remove_file(file).unwrap();
    }
}
