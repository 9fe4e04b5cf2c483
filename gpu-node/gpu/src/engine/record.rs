//! Records the commands of a step into one command buffer.

use super::ModelConfig;
use super::buffers::{Activations, Transfers};
use super::pages::PagePool;
use super::plan::{BatchPlan, HeadPlan, Plan};
use super::weights::WeightSet;
use crate::device::Gpu;
use crate::fault::DeviceFault;
use crate::programs::{Kernel, Kernels};
use wgpu::{BindGroup, CommandBuffer, CommandEncoder, ComputePass, ComputePassDescriptor};

/// The bindings that do not depend on weights.
pub(super) struct Bindings {
    /// For each layer those of `place` and `attention`.
    layers: Vec<(BindGroup, BindGroup)>,
    gate: BindGroup,
    score: BindGroup,
    candidates: BindGroup,
    sum: BindGroup,
}

impl Bindings {
    pub(super) fn new(
        (gpu, kernels): (&Gpu, &Kernels),
        buffers: &Activations,
        pages: &PagePool,
    ) -> Result<Bindings, DeviceFault> {
        let Activations { normed, queries, keys, values, attended, gate, up, .. } = buffers;
        gpu.run("bindings", || Bindings {
            layers: pages
                .layers
                .iter()
                .map(|(key_pages, value_pages)| {
                    let place = [queries, keys, values, key_pages, value_pages];
                    let attention = [queries, key_pages, value_pages, attended];
                    (kernels.place.bind(gpu, &place), kernels.attention.bind(gpu, &attention))
                })
                .collect(),
            gate: kernels.gate.bind(gpu, &[gate, up]),
            score: kernels.score.bind(gpu, &[&buffers.logits, &buffers.scores]),
            candidates: kernels.candidates.bind(gpu, &[&buffers.logits, &buffers.scores]),
            sum: kernels.sum.bind(gpu, &[normed, &buffers.sums]),
        })
    }
}

/// Everything that the commands of a step refer to.
pub(super) struct Recorder<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) kernels: &'a Kernels,
    pub(super) buffers: &'a Activations,
    pub(super) bindings: &'a Bindings,
    pub(super) transfers: &'a Transfers,
    pub(super) weights: &'a WeightSet,
    pub(super) plan: &'a Plan,
}

impl Recorder<'_> {
    /// The commands of the step. Results lie in `transfers.results`: scores and candidates, sums, logits; the logits that
    /// stay on the device in `transfers.kept`.
    pub(super) fn record(&self, gpu: &Gpu) -> CommandBuffer {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for batch in &self.plan.batches {
            self.blocks(&mut begin(&mut encoder), batch);
            batch.heads.iter().for_each(|head| self.head(&mut encoder, head));
            self.sums(&mut encoder, batch);
        }
        encoder.finish()
    }

    fn blocks(&self, pass: &mut ComputePass<'_>, batch: &BatchPlan) {
        let ModelConfig { hidden, heads, kv_heads, head_dim, intermediate, .. } = *self.config;
        let (kernels, rows) = (self.kernels, batch.rows);
        let linear = |pass: &mut ComputePass<'_>, index: usize| {
            self.weights.linears[index].record(kernels, pass, rows)
        };
        pass.set_bind_group(0, &self.transfers.call, &[self.plan.offset(batch.call)]);
        for table in &self.weights.shared.embedding {
            run(pass, &kernels.embed, table, (groups_of(hidden, 64), rows));
        }
        for (layer, (place, attention)) in self.bindings.layers.iter().enumerate() {
            let [attention_norm, mlp_norm] = &self.weights.shared.norms[layer];
            let first = 7 * layer;
            run(pass, &kernels.norm, attention_norm, (rows, 1));
            (first..first + 3).for_each(|index| linear(pass, index));
            let units = (heads + 2 * kv_heads) * head_dim / 2;
            run(pass, &kernels.place, place, (groups_of(units, 64), rows));
            run(pass, &kernels.attention, attention, (heads as u32, rows));
            linear(pass, first + 3);
            run(pass, &kernels.norm, mlp_norm, (rows, 1));
            (first + 4..first + 6).for_each(|index| linear(pass, index));
            run(pass, &kernels.gate, &self.bindings.gate, (groups_of(intermediate, 256), rows));
            linear(pass, first + 6);
        }
    }

    /// Logits of some rows, their scores and candidates, and the copies of all to the results.
    fn head(&self, encoder: &mut CommandEncoder, head: &HeadPlan) {
        let (kernels, buffers, plan) = (self.kernels, self.buffers, self.plan);
        let calls = head.calls.expect("set when the step was planned");
        {
            let pass = &mut begin(encoder);
            pass.set_bind_group(0, &self.transfers.call, &[plan.offset(calls.logits)]);
            run(pass, &kernels.norm_picked, &self.weights.shared.picked_norm, (head.rows(), 1));
            self.weights.shared.head.record(kernels, pass, head.rows());
            if head.scores() > 0 {
                pass.set_bind_group(0, &self.transfers.call, &[plan.offset(calls.scores)]);
                run(pass, &kernels.score, &self.bindings.score, (head.scores(), 1));
            }
            if head.candidates() > 0 {
                pass.set_bind_group(0, &self.transfers.call, &[plan.offset(calls.candidates)]);
                run(pass, &kernels.candidates, &self.bindings.candidates, (head.candidates(), 1));
            }
        }
        let results = &self.transfers.results;
        if head.floats > 0 {
            let (to, bytes) = (4 * head.place as u64, 4 * head.floats as u64);
            encoder.copy_buffer_to_buffer(&buffers.scores, 0, results, to, bytes);
        }
        let row_bytes = 4 * self.config.vocab as u64;
        let first = 4 * (plan.scores + plan.sums * self.config.hidden) as u64;
        for &(row, place) in &head.returned {
            let (from, to) = (row as u64 * row_bytes, first + place as u64 * row_bytes);
            encoder.copy_buffer_to_buffer(&buffers.logits, from, results, to, row_bytes);
        }
        for &(row, place) in &head.kept {
            let (from, to) = (row as u64 * row_bytes, place as u64 * row_bytes);
            encoder.copy_buffer_to_buffer(&buffers.logits, from, &self.transfers.kept, to, row_bytes);
        }
    }

    /// Sums of the hidden states of a batch, after the final norm.
    fn sums(&self, encoder: &mut CommandEncoder, batch: &BatchPlan) {
        let (kernels, hidden) = (self.kernels, self.config.hidden);
        if !batch.sums.is_empty() {
            let pass = &mut begin(encoder);
            pass.set_bind_group(0, &self.transfers.call, &[self.plan.offset(batch.call)]);
            run(pass, &kernels.norm, &self.weights.shared.final_norm, (batch.rows, 1));
        }
        for sum in &batch.sums {
            {
                let pass = &mut begin(encoder);
                pass.set_bind_group(0, &self.transfers.call, &[self.plan.offset(sum.call)]);
                run(pass, &kernels.sum, &self.bindings.sum, (groups_of(hidden, 64), 1));
            }
            if let Some(place) = sum.complete {
                let (to, bytes) = (4 * (self.plan.scores + place * hidden) as u64, 4 * hidden as u64);
                encoder.copy_buffer_to_buffer(&self.buffers.sums, 0, &self.transfers.results, to, bytes);
            }
        }
    }
}

fn begin(encoder: &mut CommandEncoder) -> ComputePass<'_> {
    encoder.begin_compute_pass(&ComputePassDescriptor::default())
}

fn run(pass: &mut ComputePass<'_>, kernel: &Kernel, bindings: &BindGroup, (x, y): (u32, u32)) {
    pass.set_pipeline(&kernel.pipeline);
    pass.set_bind_group(1, bindings, &[]);
    pass.dispatch_workgroups(x, y, 1);
}

fn groups_of(threads: usize, size: usize) -> u32 {
    threads.div_ceil(size) as u32
}
