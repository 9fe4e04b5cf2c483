//! The kernels of a calibration, and their buffers.

use super::LINEAR_INPUTS;
use super::buffers::{Activations, Buffers};
use super::parted::Parted;
use super::plan::Bindings;
use crate::device::kernel::{CalibrationKind, KernelKind};
use crate::device::{Bound, Buffer, Gpu, Kernel};
use crate::engine::ModelConfig;
use crate::fault::DeviceFault;

pub(super) struct Kernels {
    norm: Kernel,
    gate: Kernel,
    linear: Kernel,
    rotate: Kernel,
    attention: Kernel,
    residual: Kernel,
    statistic: Kernel,
    check: Kernel,
}

pub(super) struct BoundBuffers {
    /// The calls of a piece.
    pub(super) calls: Bound,
    norms: [Bound; 2],
    linears: Vec<Vec<Bound>>,
    rotate: [Bound; 2],
    attention: Bound,
    gate: Bound,
    residual: Bound,
    moments: Vec<Vec<Bound>>,
    sensitivities: Vec<Vec<Bound>>,
    checks: Vec<Bound>,
}

impl Kernels {
    pub(super) fn new(gpu: &Gpu, config: &ModelConfig) -> Result<Kernels, DeviceFault> {
        use CalibrationKind::{Attention, Check, Linear, Residual, Rotate, Statistic};
        let own = [Linear, Rotate, Attention, Residual, Statistic, Check].map(KernelKind::Calibration);
        let kinds = [&[KernelKind::Norm, KernelKind::Gate], &own[..]].concat();
        let mut kernels = gpu.compile(Some(config), &kinds)?.into_iter();
        let mut next = || kernels.next().expect("one for each kind");
        Ok(Kernels {
            norm: next(),
            gate: next(),
            linear: next(),
            rotate: next(),
            attention: next(),
            residual: next(),
            statistic: next(),
            check: next(),
        })
    }
}

impl BoundBuffers {
    pub(super) fn new(gpu: &Gpu, kernels: &Kernels, buffers: &Buffers) -> Result<BoundBuffers, DeviceFault> {
        let Activations { stream, normed, queries, keys, values, projected, gate, up } = &buffers.activations;
        let stream = &stream.parts[0];
        // The results of attention replace the queries, and the gated values those of the gate.
        let inputs = [normed, queries, normed, gate];
        let outputs = [queries, keys, values, projected, gate, up, projected];
        let norm = |gamma| gpu.bind(&kernels.norm, &[stream, gamma, normed]);
        let rotate = |states| gpu.bind(&kernels.rotate, &[states, &buffers.angles, &buffers.positions]);
        let parts = |kernel, (left, right): (&Buffer, &Buffer), sum: &Parted| {
            let bind = |part| gpu.bind(kernel, &[left, right, part]);
            sum.parts.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let linear = |(linear, weights): (usize, &Parted)| {
            let bind =
                |part| gpu.bind(&kernels.linear, &[inputs[LINEAR_INPUTS[linear]], part, outputs[linear]]);
            weights.parts.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let moment =
            |(input, sum): (usize, &Parted)| parts(&kernels.statistic, (inputs[input], inputs[input]), sum);
        let sensitivity = |(linear, sum): (usize, &Parted)| {
            parts(&kernels.statistic, (outputs[linear], inputs[LINEAR_INPUTS[linear]]), sum)
        };
        let check = |input| gpu.bind(&kernels.check, &[input, &buffers.marks]);
        Ok(BoundBuffers {
            calls: gpu.bind_step(&buffers.calls)?,
            norms: [norm(&buffers.norms[0])?, norm(&buffers.norms[1])?],
            linears: buffers.weights.iter().enumerate().map(linear).collect::<Result<_, _>>()?,
            rotate: [rotate(queries)?, rotate(keys)?],
            attention: gpu.bind(&kernels.attention, &[&buffers.tiles, keys, values, queries])?,
            gate: gpu.bind(&kernels.gate, &[gate, up])?,
            residual: gpu.bind(&kernels.residual, &[projected, stream])?,
            moments: buffers.moments.iter().enumerate().map(moment).collect::<Result<_, _>>()?,
            sensitivities: buffers
                .sensitivities
                .iter()
                .enumerate()
                .map(sensitivity)
                .collect::<Result<_, _>>()?,
            checks: inputs.into_iter().map(check).collect::<Result<_, _>>()?,
        })
    }

    /// A kernel and its buffers.
    pub(super) fn find<'a>(&'a self, kernels: &'a Kernels, bindings: Bindings) -> (&'a Kernel, &'a Bound) {
        match bindings {
            Bindings::Norm(norm) => (&kernels.norm, &self.norms[norm]),
            Bindings::Linear(linear, part) => (&kernels.linear, &self.linears[linear][part]),
            Bindings::Rotate(states) => (&kernels.rotate, &self.rotate[states]),
            Bindings::Attention => (&kernels.attention, &self.attention),
            Bindings::Gate => (&kernels.gate, &self.gate),
            Bindings::Residual => (&kernels.residual, &self.residual),
            Bindings::Moment(input, part) => (&kernels.statistic, &self.moments[input][part]),
            Bindings::Sensitivity(linear, part) => (&kernels.statistic, &self.sensitivities[linear][part]),
            Bindings::Check(input) => (&kernels.check, &self.checks[input]),
        }
    }
}
