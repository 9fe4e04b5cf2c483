//! Files that are mapped into memory.

use super::places::LoadError;
use memmap2::Mmap;
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file that is mapped into memory.
pub(super) struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps all of a file.
    fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        // SAFETY: the files are masters and masks, which are written once under another name and never changed.
        // Truncating one under a running node ends the node, as with any mapped file.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(MappedFile { map })
    }

    /// A part of the file; `None` if it is not within the file.
    fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        self.map.get(offset..offset.checked_add(length)?)
    }

    /// `count` little-endian f32 from `offset` on, copied only if they are not aligned.
    pub(super) fn floats(&self, offset: usize, count: usize) -> Option<Cow<'_, [f32]>> {
        let bytes = self.bytes(offset, count.checked_mul(4)?)?;
        if cfg!(target_endian = "little") {
            // SAFETY: every 32 bits are an f32.
            let (before, floats, _) = unsafe { bytes.align_to::<f32>() };
            if before.is_empty() && floats.len() == count {
                return Some(Cow::Borrowed(floats));
            }
        }
        let (words, _) = bytes.as_chunks::<4>();
        Some(Cow::Owned(words.iter().map(|word| f32::from_le_bytes(*word)).collect()))
    }
}

/// A mapped file of tensors. Its errors name the file and the tensor.
pub struct Source<'a> {
    path: &'a Path,
    file: Arc<MappedFile>,
}

impl Source<'_> {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Source<'_>, LoadError> {
        match MappedFile::open(path) {
            Ok(file) => Ok(Source { path, file: Arc::new(file) }),
            Err(error) => Err(LoadError::File(path.to_owned(), error)),
        }
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// `count` little-endian f32 of a tensor from `offset` on, copied only if they are not aligned.
    pub fn floats(&self, tensor: &str, offset: usize, count: usize) -> Result<Cow<'_, [f32]>, LoadError> {
        self.file.floats(offset, count).ok_or_else(|| self.short(tensor))
    }

    /// `length` bytes of a tensor from `offset` on.
    pub fn bytes(&self, tensor: &str, offset: usize, length: usize) -> Result<&[u8], LoadError> {
        self.file.bytes(offset, length).ok_or_else(|| self.short(tensor))
    }

    fn short(&self, tensor: &str) -> LoadError {
        LoadError::Short(self.path.to_owned(), tensor.to_owned())
    }
}
