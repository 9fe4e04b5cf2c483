/// The sequences and pages in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Sequences of all weight sets.
    pub sequences: usize,
    /// Pages that a step has written.
    pub written_pages: usize,
    /// All pages.
    pub total_pages: usize,
}

impl Usage {
    /// `written` says for each page whether a step has written to it.
    pub fn new(sequences: usize, written: &[bool]) -> Usage {
        let written_pages = written.iter().filter(|&&written| written).count();
        Usage { sequences, written_pages, total_pages: written.len() }
    }
}
