//! Records commands in submissions of bounded work.
//!
//! A driver resets a device on which one submission takes too long: after 2 s on Windows, after 10 s by Linux's driver for AMD, or
//! 2 s by a newer one. On macOS such a submission is ended. The commands of a step are therefore submitted one part after another,
//! without a wait between them.

use crate::device::kernel::KernelKind;
use crate::device::{AttentionLimits, Command};
use crate::parts::parts;
use std::ops::Range;
use wgpu::{CommandBuffer, ComputePassDescriptor, Device};

/// Work of a submission, at most, in the unit of [`group_work`]; one command may have more. With 4,096 columns these are 2³³
/// products: two seconds for a device that computes 4.3 · 10⁹ a second.
pub(super) const MAX_SUBMISSION_WORK: u64 = 1 << 16;

/// Positions to which a head attends with the work of one product.
const POSITIONS: u64 = 512;
/// The work of a head counts as that of so many positions, see [`group_work`]. The attention of more has submissions for itself.
pub(in super::super) const ATTENTION_LIMITS: AttentionLimits =
    AttentionLimits { command: MAX_SUBMISSION_WORK * POSITIONS, head: 4096 };

/// The work of one group of threads of a kernel, in products of a block of 32 rows with one token.
pub(super) fn group_work(kind: KernelKind) -> u64 {
    match kind {
        KernelKind::Product(_, tokens) => tokens.into(),
        KernelKind::Attention => ATTENTION_LIMITS.head / POSITIONS,
        _ => 1,
    }
}

/// The commands of each submission, of which there is at least one.
pub(super) fn submissions(commands: &[Command<'_>]) -> Vec<Range<usize>> {
    let mut found = parts(commands.iter().map(work), MAX_SUBMISSION_WORK);
    found.retain(|part| !matches!(commands[part.clone()], [Command::Submit]));
    if found.is_empty() {
        found.push(0..0);
    }
    found
}

fn work(command: &Command<'_>) -> u64 {
    match *command {
        Command::Run { kernel, groups: (x, y), .. } => {
            u64::from(x) * u64::from(y) * kernel.portable().group_work
        }
        Command::Clear(_) | Command::Copy { .. } => 1,
        // It is a part for itself.
        Command::Submit => u64::MAX,
    }
}

/// Records commands.
pub(super) fn record(device: &Device, commands: &[Command<'_>]) -> CommandBuffer {
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut rest = commands;
    while let Some(command) = rest.first() {
        if let Command::Copy { from: (from, from_byte), to: (to, to_byte), bytes } = *command {
            encoder.copy_buffer_to_buffer(from.portable(), from_byte, to.portable(), to_byte, bytes);
            rest = &rest[1..];
            continue;
        }
        if let Command::Clear(buffer) = command {
            encoder.clear_buffer(buffer.portable(), 0, None);
            rest = &rest[1..];
            continue;
        }
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        while let Some(Command::Run { kernel, call: (step, call), bound, groups: (x, y) }) = rest.first() {
            pass.set_pipeline(&kernel.portable().pipeline);
            pass.set_bind_group(0, step.portable(), &[*call]);
            pass.set_bind_group(1, bound.portable(), &[]);
            pass.dispatch_workgroups(*x, *y, 1);
            rest = &rest[1..];
        }
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::{MAX_SUBMISSION_WORK, group_work, submissions};
    use crate::device::kernel::KernelKind;
    use crate::device::{BufferUse, Command};
    use crate::layout::Form;
    use crate::parts::parts;
    use crate::support::open;
    use std::ops::Range;

    #[test]
    fn a_command_ends_a_submission_and_is_in_none() {
        let buffer = open().allocate("a test", 16, BufferUse::Work).unwrap();
        let (clear, submit) = (Command::Clear(&buffer), Command::Submit);
        assert_eq!(submissions(&[clear, submit, clear, clear, submit, submit]), [0..1, 2..4]);
        let is_one_empty = |found: &[Range<usize>]| matches!(found, [part] if part.is_empty());
        assert!(is_one_empty(&submissions(&[])) && is_one_empty(&submissions(&[submit, submit])));
    }

    #[test]
    fn a_prompt_of_a_model_of_7b_takes_many_submissions_and_a_token_of_it_one() {
        // Rows of the linears of a layer; 72 tokens are five tiles of 16.
        let rows = [4096_u64, 4096, 4096, 4096, 11_008, 11_008, 4096];
        let submissions = |tile, tiles| {
            let kernel = group_work(KernelKind::Product(Form::Sparse, tile));
            let layers = (0..32).flat_map(|_| rows).map(|rows| rows / 32 * tiles * kernel);
            parts(layers, MAX_SUBMISSION_WORK).len()
        };
        assert_eq!(submissions(1, 1), 1);
        assert!((50..100).contains(&submissions(16, 5)), "{}", submissions(16, 5));
    }
}
