//! What is run for a chunk of sequences, in bounded pieces.

use super::{LINEAR_INPUTS, STATE_LINEARS, input_sizes};
use crate::device::kernel::{QUERY_TILE, SQUARE_TILE};
use crate::engine::ModelConfig;
use std::ops::Range;

/// A kernel with its buffers: a place among the bindings of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bindings {
    /// The norm before attention (0) or before the gated layer (1).
    Norm(usize),
    /// A linear, and the part of its weights.
    Linear(usize, usize),
    /// Queries (0) or keys (1).
    Rotate(usize),
    Attention,
    Gate,
    Residual,
    /// An input, and the part of its second moment.
    Moment(usize, usize),
    /// A linear, and the part of its sensitivity.
    Sensitivity(usize, usize),
    /// An input.
    Check(usize),
}

/// One run of a kernel.
pub(super) struct Task {
    pub(super) bindings: Bindings,
    pub(super) groups: (u32, u32),
    /// The words of the call, as the kernel declares them.
    pub(super) call: Vec<u32>,
    /// Products that it adds up, about.
    products: usize,
}

/// The tasks for a chunk, in order.
pub(super) struct Plan {
    pub(super) tasks: Vec<Task>,
    /// The tasks that are submitted together: of at most [`Layout::piece_products`], or one task that has more.
    pub(super) pieces: Vec<Range<usize>>,
}

/// What a plan depends on.
pub(super) struct Layout<'a> {
    pub(super) config: &'a ModelConfig,
    /// Tokens of each sequence.
    pub(super) lengths: &'a [usize],
    /// Tokens that pass through the gated layer together.
    pub(super) slice_tokens: usize,
    /// Products of a piece at most, unless a row of tiles has more.
    pub(super) piece_products: usize,
    /// Rows of the parts of each linear's weights, of each input's second moment and of each linear's sensitivity.
    pub(super) weights: Vec<Vec<Range<usize>>>,
    pub(super) moments: Vec<Vec<Range<usize>>>,
    /// Empty: none is summed.
    pub(super) sensitivities: Vec<Vec<Range<usize>>>,
}

impl Layout<'_> {
    pub(super) fn plan(&self) -> Plan {
        let mut tasks = Vec::new();
        self.attention_inputs(&mut tasks);
        self.attention(&mut tasks);
        self.gated_layer(&mut tasks);
        let (mut pieces, mut products) = (Vec::<Range<usize>>::new(), 0);
        for (index, task) in tasks.iter().enumerate() {
            match pieces.last_mut() {
                Some(piece) if products + task.products <= self.piece_products => {
                    piece.end = index + 1;
                    products += task.products;
                }
                _ => {
                    pieces.push(index..index + 1);
                    products = task.products;
                }
            }
        }
        Plan { tasks, pieces }
    }

    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn slices(&self) -> impl Iterator<Item = Range<usize>> {
        let (tokens, slice) = (self.tokens(), self.slice_tokens);
        (0..tokens).step_by(slice).map(move |first| first..(first + slice).min(tokens))
    }

    /// Norm, queries, keys and values.
    fn attention_inputs(&self, tasks: &mut Vec<Task>) {
        tasks.push(self.norm(0));
        for slice in self.slices() {
            (0..3).for_each(|linear| self.linear(tasks, linear, &slice));
            self.statistics(tasks, 0, &slice);
        }
    }

    /// Attention and its projection.
    fn attention(&self, tasks: &mut Vec<Task>) {
        let ModelConfig { heads, kv_heads, head_dim, .. } = *self.config;
        for (states, heads) in [heads, kv_heads].into_iter().enumerate() {
            let units = heads * head_dim / 2;
            tasks.push(Task {
                bindings: Bindings::Rotate(states),
                groups: groups(units, 64, self.tokens()),
                call: vec![heads as u32],
                products: 2 * units * self.tokens(),
            });
        }
        self.attend(tasks);
        for slice in self.slices() {
            self.linear(tasks, 3, &slice);
            self.statistics(tasks, 1, &slice);
            tasks.push(self.residual(&slice));
        }
    }

    fn gated_layer(&self, tasks: &mut Vec<Task>) {
        tasks.push(self.norm(1));
        for slice in self.slices() {
            (4..6).for_each(|linear| self.linear(tasks, linear, &slice));
            self.statistics(tasks, 2, &slice);
            let intermediate = self.config.intermediate;
            tasks.push(Task {
                bindings: Bindings::Gate,
                groups: groups(intermediate, 256, slice.len()),
                call: vec![slice.len() as u32],
                products: intermediate * slice.len(),
            });
            self.linear(tasks, 6, &slice);
            self.statistics(tasks, 3, &slice);
            tasks.push(self.residual(&slice));
        }
    }

    fn norm(&self, norm: usize) -> Task {
        let tokens = self.tokens();
        Task {
            bindings: Bindings::Norm(norm),
            groups: (tokens as u32, 1),
            call: vec![tokens as u32],
            products: 2 * self.config.hidden * tokens,
        }
    }

    fn residual(&self, slice: &Range<usize>) -> Task {
        let hidden = self.config.hidden;
        Task {
            bindings: Bindings::Residual,
            groups: groups(hidden, 64, slice.len()),
            call: vec![slice.start as u32],
            products: hidden * slice.len(),
        }
    }

    fn linear(&self, tasks: &mut Vec<Task>, linear: usize, slice: &Range<usize>) {
        let (rows, cols) = self.config.linear_shapes()[linear];
        let (input, output) = (first_row(LINEAR_INPUTS[linear] != 3, slice), first_output(linear, slice));
        for (part, part_rows) in self.weights[linear].iter().enumerate() {
            for piece in self.split(part_rows.clone(), |_| slice.len() * cols) {
                let call = [slice.len(), input, output, cols, rows, piece.start, piece.end, part_rows.start];
                tasks.push(Task {
                    bindings: Bindings::Linear(linear, part),
                    groups: tiles(piece.len(), slice.len()),
                    call: words(&call),
                    products: slice.len() * cols * piece.len(),
                });
            }
        }
    }

    fn attend(&self, tasks: &mut Vec<Task>) {
        let ModelConfig { heads, head_dim, .. } = *self.config;
        // A tile reads all positions up to its last query.
        let products: Vec<usize> = self
            .lengths
            .iter()
            .flat_map(|&length| (0..length).step_by(QUERY_TILE).map(move |first| (first, length)))
            .map(|(first, length)| 2 * QUERY_TILE * heads * head_dim * (first + QUERY_TILE).min(length))
            .collect();
        let mut first = 0;
        while first < products.len() {
            let (mut end, mut sum) = (first + 1, products[first]);
            // A grid has at most 65,535 groups each way.
            while end < products.len() && end - first < 65_535 && sum + products[end] <= self.piece_products {
                sum += products[end];
                end += 1;
            }
            tasks.push(Task {
                bindings: Bindings::Attention,
                groups: (heads as u32, (end - first) as u32),
                call: vec![first as u32],
                products: sum,
            });
            first = end;
        }
    }

    /// The second moment of an input, and the sensitivities of the linears that read it.
    fn statistics(&self, tasks: &mut Vec<Task>, input: usize, slice: &Range<usize>) {
        let cols = input_sizes(self.config)[input];
        let first = first_row(input != 3, slice);
        tasks.push(Task {
            bindings: Bindings::Check(input),
            groups: groups(cols, 64, 1),
            call: words(&[slice.len(), first, cols, input]),
            products: slice.len() * cols,
        });
        for (part, rows) in self.moments[input].iter().enumerate() {
            for piece in self.split(rows.clone(), |first| slice.len() * (cols - first)) {
                let width = cols - piece.start;
                let call = [first, first, cols, cols, piece.start, piece.end, rows.start, piece.start, 0];
                tasks.push(Task {
                    bindings: Bindings::Moment(input, part),
                    groups: tiles(width, piece.len()),
                    call: words(&[&[slice.len()], &call[..]].concat()),
                    products: slice.len() * width * piece.len(),
                });
            }
        }
        for linear in (0..LINEAR_INPUTS.len()).filter(|&linear| LINEAR_INPUTS[linear] == input) {
            let rows = self.config.linear_shapes()[linear].0;
            for (part, part_rows) in self.sensitivities.get(linear).into_iter().flatten().enumerate() {
                for piece in self.split(part_rows.clone(), |_| slice.len() * cols) {
                    let output = first_output(linear, slice);
                    let call = [output, first, rows, cols, piece.start, piece.end, part_rows.start, 0, 1];
                    tasks.push(Task {
                        bindings: Bindings::Sensitivity(linear, part),
                        groups: tiles(cols, piece.len()),
                        call: words(&[&[slice.len()], &call[..]].concat()),
                        products: slice.len() * cols * piece.len(),
                    });
                }
            }
        }
    }

    /// Splits rows into whole tiles of at most [`Layout::piece_products`]. `row_products(first)` are those of a row from a row
    /// on.
    fn split(
        &self,
        rows: Range<usize>,
        row_products: impl Fn(usize) -> usize,
    ) -> impl Iterator<Item = Range<usize>> {
        let (most, mut first) = (self.piece_products, rows.start);
        std::iter::from_fn(move || {
            (first < rows.end).then(|| {
                let count = (most / row_products(first) / SQUARE_TILE * SQUARE_TILE).max(SQUARE_TILE);
                let piece = first..(first + count).min(rows.end);
                first = piece.end;
                piece
            })
        })
    }
}

/// The first row of a slice, in a buffer of the whole chunk or of one slice.
fn first_row(is_whole: bool, slice: &Range<usize>) -> usize {
    if is_whole { slice.start } else { 0 }
}

/// The first row of the outputs of a linear: queries, keys and values are those of the whole chunk.
fn first_output(linear: usize, slice: &Range<usize>) -> usize {
    first_row(linear < STATE_LINEARS, slice)
}

fn words(counts: &[usize]) -> Vec<u32> {
    counts.iter().map(|&count| count as u32).collect()
}

fn tiles(cols: usize, rows: usize) -> (u32, u32) {
    (cols.div_ceil(SQUARE_TILE) as u32, rows.div_ceil(SQUARE_TILE) as u32)
}

fn groups(threads: usize, size: usize, rows: usize) -> (u32, u32) {
    (threads.div_ceil(size) as u32, rows as u32)
}

#[cfg(test)]
mod tests {
    use super::{Bindings, Layout};
    use crate::calibration::input_sizes;
    use crate::engine::ModelConfig;
    use std::ops::Range;

    /// The shape of Llama 2 7B.
    fn config() -> ModelConfig {
        ModelConfig {
            hidden: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 32,
            head_dim: 128,
            intermediate: 11_008,
            vocab: 32_000,
            context: 4096,
            eps: 1e-5,
            rope: vec![1.0; 64],
        }
    }

    #[test]
    fn pieces_are_bounded_and_cover_every_row_of_every_matrix_once() {
        let config = config();
        let (lengths, slice_tokens, piece_products) = ([3000, 1, 47], 1280, 1 << 32);
        let split = |rows: usize| {
            let first = rows / 2 / 64 * 64;
            vec![0..first, first..rows]
        };
        let shapes = config.linear_shapes();
        let weights: Vec<_> = shapes.iter().map(|&(rows, _)| split(rows)).collect();
        let layout = Layout {
            config: &config,
            lengths: &lengths,
            slice_tokens,
            piece_products,
            sensitivities: weights.clone(),
            weights,
            moments: input_sizes(&config).map(split).to_vec(),
        };
        let plan = layout.plan();
        assert_eq!(plan.pieces.first().unwrap().start, 0);
        assert_eq!(plan.pieces.last().unwrap().end, plan.tasks.len());
        assert!(plan.pieces.windows(2).all(|pair| pair[0].end == pair[1].start));
        for piece in &plan.pieces {
            let products: usize = plan.tasks[piece.clone()].iter().map(|task| task.products).sum();
            assert!(products <= piece_products, "{products}");
        }
        let rows_of = |bindings: Bindings, first: usize| -> Vec<Range<u32>> {
            let tasks = plan.tasks.iter().filter(|task| task.bindings == bindings);
            tasks.map(|task| task.call[first]..task.call[first + 1]).collect()
        };
        // For each of three slices the rows from the first to the last, in whole tiles.
        let covers = |found: Vec<Range<u32>>, rows: &Range<usize>| {
            let (mut next, mut slices) = (rows.start as u32, 0);
            for found in found {
                assert!(found.start == next && found.start.is_multiple_of(64) && !found.is_empty());
                next = found.end;
                if next == rows.end as u32 {
                    (next, slices) = (rows.start as u32, slices + 1);
                }
            }
            next == rows.start as u32 && slices == 3
        };
        for (linear, &(rows, _)) in shapes.iter().enumerate() {
            for (part, rows) in split(rows).iter().enumerate() {
                assert!(covers(rows_of(Bindings::Linear(linear, part), 5), rows), "linear {linear}");
                assert!(
                    covers(rows_of(Bindings::Sensitivity(linear, part), 5), rows),
                    "sensitivity {linear}"
                );
            }
        }
        for (input, size) in input_sizes(&config).into_iter().enumerate() {
            for (part, rows) in split(size).iter().enumerate() {
                assert!(covers(rows_of(Bindings::Moment(input, part), 5), rows), "moment {input}");
            }
        }
        let attention = plan.tasks.iter().filter(|task| task.bindings == Bindings::Attention);
        let tiles: Vec<_> = attention.map(|task| (task.call[0], task.groups.1)).collect();
        assert!(tiles.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
        let &(first, count) = tiles.last().unwrap();
        assert_eq!(first + count, 375 + 1 + 6);
    }
}
