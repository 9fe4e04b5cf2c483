//! Lists of commands that repeat, and the graphs that were made of them.
//!
//! A list is compared by the identities of its kernels, bindings and buffers, not by their addresses. No identity is used
//! twice, so nobody finds the graph of a list that names something freed. When a binding that a graph names was dropped, the
//! next step destroys the graph; other graphs go when they are the least recently used. The caller that passes a list holds its
//! memory, so a graph that is found has all of it.

use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// Graphs that are kept, at most: those of a weight set in batches of all sizes up to 1,024 rows, see
/// [`launched_rows`](super::launched_rows), with short and with long contexts, and some more.
pub(super) const MAX_GRAPHS: usize = 64;
/// Lists of which it is remembered that they were run once, at most.
const MAX_SEEN: usize = 128;

/// What tells a command from all others.
pub(super) type Entry = [u64; 5];

/// Graphs of type `G`, and the lists that they run.
pub(super) struct Graphs<G> {
    known: Vec<Known<G>>,
    /// Hashes of the lists that were run once, the last one at the end.
    seen: VecDeque<u64>,
    /// Uses of all graphs.
    uses: u64,
    /// Lists that were looked up and had no graph.
    #[cfg(test)]
    misses: usize,
}

struct Known<G> {
    hash: u64,
    list: Box<[Entry]>,
    graph: G,
    last_use: u64,
}

/// What is known of a list of commands.
pub(super) enum Found<'a, G> {
    /// It was not run lately.
    New,
    /// It was run once.
    Repeated,
    /// It has a graph.
    Graph(&'a G),
}

impl<G> Default for Graphs<G> {
    fn default() -> Graphs<G> {
        Graphs {
            known: Vec::new(),
            seen: VecDeque::new(),
            uses: 0,
            #[cfg(test)]
            misses: 0,
        }
    }
}

impl<G> Graphs<G> {
    /// Looks up a list that is about to be run.
    pub(super) fn find(&mut self, list: &[Entry]) -> Found<'_, G> {
        let hash = hash_of(list);
        let is_same = |known: &Known<G>| known.hash == hash && *known.list == *list;
        if let Some(at) = self.known.iter().position(is_same) {
            self.uses += 1;
            self.known[at].last_use = self.uses;
            return Found::Graph(&self.known[at].graph);
        }
        #[cfg(test)]
        (self.misses += 1);
        // Two lists of one hash only make a graph of the second one early.
        if let Some(at) = self.seen.iter().position(|&seen| seen == hash) {
            self.seen.remove(at);
            return Found::Repeated;
        }
        if self.seen.len() == MAX_SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back(hash);
        Found::New
    }

    /// Keeps the graph of a list that has none. The least recently used one makes room for it.
    pub(super) fn insert(&mut self, list: &[Entry], graph: G) -> &G {
        if self.known.len() == MAX_GRAPHS {
            let oldest = self.known.iter().enumerate().min_by_key(|(_, known)| known.last_use);
            let (at, _) = oldest.expect("it is full");
            self.known.swap_remove(at);
        }
        self.uses += 1;
        let (hash, last_use) = (hash_of(list), self.uses);
        self.known.push(Known { hash, list: list.into(), graph, last_use });
        &self.known[self.known.len() - 1].graph
    }

    /// Graphs that are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Lists that were looked up and had no graph.
    #[cfg(test)]
    pub(super) fn misses(&self) -> usize {
        self.misses
    }

    /// Destroys all graphs but some.
    pub(super) fn retain(&mut self, keeps: impl Fn(&G) -> bool) {
        self.known.retain(|known| keeps(&known.graph));
    }

    /// Destroys all graphs.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

fn hash_of(list: &[Entry]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(list)
}

#[cfg(test)]
mod tests {
    use super::{Found, Graphs, MAX_GRAPHS, MAX_SEEN};

    fn name(found: Found<'_, u64>) -> String {
        match found {
            Found::New => "new".to_owned(),
            Found::Repeated => "repeated".to_owned(),
            Found::Graph(graph) => graph.to_string(),
        }
    }

    #[test]
    fn a_list_gets_a_graph_when_it_repeats_and_only_for_itself() {
        let mut graphs = Graphs::default();
        let list = [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]];
        assert_eq!(name(graphs.find(&list)), "new");
        assert_eq!(name(graphs.find(&list)), "repeated");
        assert_eq!(*graphs.insert(&list, 7), 7);
        assert_eq!(name(graphs.find(&list)), "7");
        for entry in 0..2 {
            for word in 0..5 {
                let mut other = list;
                other[entry][word] += 100;
                assert_eq!(name(graphs.find(&other)), "new", "{entry} {word}");
            }
        }
        assert_eq!(name(graphs.find(&list[..1])), "new");
        assert_eq!(name(graphs.find(&[list[1], list[0]])), "new");
        graphs.clear();
        assert_eq!(name(graphs.find(&list)), "new");
    }

    #[test]
    fn the_least_recently_used_graph_makes_room() {
        let mut graphs = Graphs::default();
        let list = |index: usize| [[index as u64; 5]];
        for index in 0..MAX_GRAPHS {
            graphs.insert(&list(index), index as u64);
        }
        assert_eq!(name(graphs.find(&list(0))), "0");
        graphs.insert(&list(MAX_GRAPHS), MAX_GRAPHS as u64);
        assert_eq!(name(graphs.find(&list(0))), "0");
        assert_eq!(name(graphs.find(&list(1))), "new");
        assert_eq!(name(graphs.find(&list(MAX_GRAPHS))), MAX_GRAPHS.to_string());
    }

    #[test]
    fn graphs_that_are_not_kept_cannot_be_found() {
        let mut graphs = Graphs::default();
        let list = |index: usize| [[index as u64; 5]];
        for index in 0..4 {
            graphs.insert(&list(index), index as u64);
        }
        graphs.retain(|graph| graph % 2 == 1);
        let found: Vec<_> = (0..4).map(|index| name(graphs.find(&list(index)))).collect();
        assert_eq!(found, ["new", "1", "new", "3"]);
    }

    #[test]
    fn lists_that_do_not_repeat_leave_the_graphs_alone_and_are_forgotten() {
        let mut graphs = Graphs::default();
        let list = |index: usize| [[index as u64; 5]];
        graphs.insert(&list(0), 0);
        (1..=MAX_SEEN + 1).for_each(|index| assert_eq!(name(graphs.find(&list(index))), "new"));
        assert_eq!(name(graphs.find(&list(0))), "0");
        assert_eq!(name(graphs.find(&list(1))), "new");
        assert_eq!(name(graphs.find(&list(MAX_SEEN + 1))), "repeated");
    }
}
