use memmap2::Mmap;
use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;

/// A file that is mapped into memory.
pub(crate) struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps all of a file.
    pub(crate) fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        // SAFETY: the files are masters and masks, which are written once under another name and never changed.
        // Truncating one under a running node ends the node, as with any mapped file.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(MappedFile { map })
    }

    /// A part of the file; `None` if it is not within the file.
    pub(crate) fn bytes(&self, offset: usize, length: usize) -> Option<&[u8]> {
        self.map.get(offset..offset.checked_add(length)?)
    }

    /// `count` little-endian f32 from `offset` on, copied only if they are not aligned.
    pub(crate) fn floats(&self, offset: usize, count: usize) -> Option<Cow<'_, [f32]>> {
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
