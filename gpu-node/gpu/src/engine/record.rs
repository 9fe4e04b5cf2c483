//! The commands of a step.

use super::buffers::{Activations, Transfers};
use super::pages::PagePool;
use super::plan::{AttentionCommands, AttentionPlan, BatchPlan, CallId, HeadPlan, Plan, RowRun};
use super::weights::WeightSet;
use super::{LINEARS, ModelConfig};
use crate::device::{Bound, Buffer, Command, Gpu};
use crate::fault::DeviceFault;
use crate::programs::Kernels;
use std::ops::Range;

/// The bindings that do not depend on weights.
pub(super) struct Bindings {
    layers: Vec<LayerBindings>,
    attention_join: Bound,
    gate: Bound,
    score: Bound,
    candidates: Bound,
    sum: Bound,
}

struct LayerBindings {
    place: Bound,
    attention: Bound,
    attention_spans: Bound,
}

impl Bindings {
    pub(super) fn new(
        (gpu, kernels): (&Gpu, &Kernels),
        buffers: &Activations,
        pages: &PagePool,
    ) -> Result<Bindings, DeviceFault> {
        let Activations { normed, queries, keys, values, attended, spans, gate, up, .. } = buffers;
        let layers = pages.layers.iter().map(|(key_pages, value_pages)| {
            let pages = [queries, key_pages, value_pages];
            let bind = |kernel, out| gpu.bind(kernel, &[&pages[..], &[out]].concat());
            Ok(LayerBindings {
                place: gpu.bind(&kernels.place, &[queries, keys, values, key_pages, value_pages])?,
                attention: bind(&kernels.attention, attended)?,
                attention_spans: bind(&kernels.attention_spans, spans)?,
            })
        });
        Ok(Bindings {
            layers: layers.collect::<Result<_, DeviceFault>>()?,
            attention_join: gpu.bind(&kernels.attention_join, &[spans, attended])?,
            gate: gpu.bind(&kernels.gate, &[gate, up])?,
            score: gpu.bind(&kernels.score, &[&buffers.logits, &buffers.scores])?,
            candidates: gpu.bind(&kernels.candidates, &[&buffers.logits, &buffers.scores])?,
            sum: gpu.bind(&kernels.sum, &[normed, &buffers.sums])?,
        })
    }
}

/// Everything that the commands of a step refer to.
pub(super) struct Recorder<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) config: &'a ModelConfig,
    pub(super) kernels: &'a Kernels,
    pub(super) buffers: &'a Activations,
    pub(super) bindings: &'a Bindings,
    pub(super) transfers: &'a Transfers,
    pub(super) weights: &'a WeightSet,
    pub(super) plan: &'a Plan,
}

impl<'a> Recorder<'a> {
    /// The commands of the step. Those of the blocks, nearly all, are lists of their own, because they depend on the rows of
    /// their batch alone. Results lie in `transfers.results`: scores and candidates, sums, logits; the logits that stay on
    /// the device in `transfers.kept`.
    pub(super) fn record(&self) -> Vec<Vec<Command<'a>>> {
        let mut lists = Vec::new();
        for batch in &self.plan.batches {
            let mut results = Vec::new();
            batch.heads.iter().for_each(|head| self.head(&mut results, head));
            self.sums(&mut results, batch);
            lists.extend([self.blocks(batch), results]);
        }
        lists
    }

    fn call(&self, call: CallId) -> (&'a Bound, u32) {
        (&self.transfers.call, self.plan.offset(call))
    }

    fn blocks(&self, batch: &BatchPlan) -> Vec<Command<'a>> {
        let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *self.config;
        let (kernels, weights, call) = (self.kernels, self.weights, self.call(batch.call));
        let rows = self.gpu.launched_rows(batch.rows);
        let mut commands = Vec::new();
        let linears = |range: Range<usize>| {
            let linears = weights.linears[range].iter();
            linears.flat_map(move |linear| linear.commands(kernels, call, rows))
        };
        let run = |kernel, bound, groups| Command::Run { kernel, call, bound, groups };
        for table in &weights.shared.embedding {
            commands.push(run(&kernels.embed, table, (groups_of(hidden, 64), rows)));
        }
        for (layer, bindings) in self.bindings.layers.iter().enumerate() {
            let [attention_norm, mlp_norm] = &weights.shared.norms[layer];
            let first = LINEARS.len() * layer;
            commands.push(run(&kernels.norm, attention_norm, (rows, 1)));
            commands.extend(linears(first..first + 3));
            let units = (heads + 2 * kv_heads) * head_dim / 2;
            commands.push(run(&kernels.place, &bindings.place, (groups_of(units, 64), rows)));
            self.attention(&mut commands, batch, bindings);
            commands.extend(linears(first + 3..first + 4));
            commands.push(run(&kernels.norm, mlp_norm, (rows, 1)));
            commands.extend(linears(first + 4..first + 6));
            commands.push(run(&kernels.gate, &self.bindings.gate, (groups_of(intermediate, 256), rows)));
            commands.extend(linears(first + 6..first + 7));
        }
        commands
    }

    fn attention(&self, commands: &mut Vec<Command<'a>>, batch: &BatchPlan, bindings: &'a LayerBindings) {
        let (heads, kernels) = (self.config.heads, self.kernels);
        let run = |call, (kernel, bound), groups| Command::Run {
            kernel,
            call: self.call(call),
            bound,
            groups: (heads as u32, groups),
        };
        let AttentionPlan { commands: divided, is_long } = &batch.attention;
        let submit = is_long.then_some(Command::Submit);
        commands.extend(submit);
        match divided {
            AttentionCommands::Rows(parts) => {
                for &(rows, call) in parts {
                    let attention = (&kernels.attention, &bindings.attention);
                    commands.push(run(call, attention, self.gpu.launched_rows(rows)));
                    commands.extend(submit);
                }
            }
            AttentionCommands::Spans(count) => {
                let spans = (&kernels.attention_spans, &bindings.attention_spans);
                commands.push(run(batch.call, spans, self.gpu.span_groups(heads, *count)));
                commands.extend(submit);
                let join = (&kernels.attention_join, &self.bindings.attention_join);
                commands.push(run(batch.call, join, self.gpu.launched_rows(batch.rows)));
            }
        }
    }

    /// Logits of some rows, their scores and candidates, and the copies of all to the results.
    fn head(&self, commands: &mut Vec<Command<'a>>, head: &HeadPlan) {
        let (kernels, buffers, bindings, plan) = (self.kernels, self.buffers, self.bindings, self.plan);
        let calls = head.calls.expect("set when the step was planned");
        let run = |kernel, call, bound, groups| Command::Run {
            kernel,
            call: self.call(call),
            bound,
            groups: (groups, 1),
        };
        let shared = &self.weights.shared;
        commands.push(run(&kernels.norm_picked, calls.logits, &shared.picked_norm, head.rows()));
        commands.extend(shared.head.commands(kernels, self.call(calls.logits), head.rows()));
        if head.scores() > 0 {
            commands.push(run(&kernels.score, calls.scores, &bindings.score, head.scores()));
        }
        if head.candidates() > 0 {
            commands.push(run(
                &kernels.candidates,
                calls.candidates,
                &bindings.candidates,
                head.candidates(),
            ));
        }
        let results = &self.transfers.results;
        if head.floats > 0 {
            let (to, bytes) = (4 * head.place as u64, 4 * head.floats as u64);
            commands.push(Command::Copy { from: (&buffers.scores, 0), to: (results, to), bytes });
        }
        let bytes = 4 * self.config.vocab as u64;
        let first = 4 * (plan.scores + plan.sums * self.config.hidden) as u64;
        let mut copy = |rows: RowRun, to: &'a Buffer, first: u64| {
            if rows.count > 0 {
                commands.push(Command::Copy {
                    from: (&buffers.logits, rows.first as u64 * bytes),
                    to: (to, first + rows.place as u64 * bytes),
                    bytes: rows.count as u64 * bytes,
                });
            }
        };
        copy(head.returned, results, first);
        copy(head.kept, &self.transfers.kept, 0);
    }

    /// Sums of the hidden states of a batch, after the final norm.
    fn sums(&self, commands: &mut Vec<Command<'a>>, batch: &BatchPlan) {
        let (kernels, hidden) = (self.kernels, self.config.hidden);
        if !batch.sums.is_empty() {
            let (call, bound) = (self.call(batch.call), &self.weights.shared.final_norm);
            commands.push(Command::Run { kernel: &kernels.norm, call, bound, groups: (batch.rows, 1) });
        }
        for sum in &batch.sums {
            let (call, groups) = (self.call(sum.call), (groups_of(hidden, 64), 1));
            commands.push(Command::Run { kernel: &kernels.sum, call, bound: &self.bindings.sum, groups });
            if let Some(place) = sum.complete {
                let (to, bytes) = (4 * (self.plan.scores + place * hidden) as u64, 4 * hidden as u64);
                let from = (&self.buffers.sums, 0);
                commands.push(Command::Copy { from, to: (&self.transfers.results, to), bytes });
            }
        }
    }
}

fn groups_of(threads: usize, size: usize) -> u32 {
    threads.div_ceil(size) as u32
}
