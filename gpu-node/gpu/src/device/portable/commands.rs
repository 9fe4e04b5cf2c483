//! Records commands in submissions of bounded work.
//!
//! A driver resets a device on which one submission takes too long: after 2 s on Windows, after 10 s by Linux's driver for AMD, or
//! 2 s by a newer one. On macOS such a submission is ended. The commands of a step are therefore submitted one part after another,
//! without a wait between them.

use crate::device::Command;
use crate::device::kernel::KernelKind;
use std::ops::Range;
use wgpu::{CommandBuffer, ComputePassDescriptor, Device};

/// Work of a submission, at most, in the unit of [`group_work`]; one command may have more. With 4,096 columns these are 2³³
/// products: two seconds for a device that computes 4.3 · 10⁹ a second.
pub(super) const MAX_SUBMISSION_WORK: u64 = 1 << 16;

/// The work of one group of threads of a kernel, in products of a block of 32 rows with one token.
pub(super) fn group_work(kind: KernelKind) -> u64 {
    match kind {
        KernelKind::Product(_, tokens) => tokens.into(),
        // A head with 4,096 positions.
        KernelKind::Attention => 8,
        _ => 1,
    }
}

/// The commands of each submission.
pub(super) fn submissions(commands: &[Command<'_>]) -> Vec<Range<usize>> {
    split(commands.iter().map(work), MAX_SUBMISSION_WORK)
}

fn work(command: &Command<'_>) -> u64 {
    match *command {
        Command::Run { kernel, groups: (x, y), .. } => {
            u64::from(x) * u64::from(y) * kernel.portable().group_work
        }
        Command::Clear(_) | Command::Copy { .. } => 1,
    }
}

/// Splits a list, whose entries take so much work each, into parts of at most `most`, or of one entry that takes more. An empty
/// list is one part.
fn split(works: impl Iterator<Item = u64>, most: u64) -> Vec<Range<usize>> {
    let (mut parts, mut part, mut sum) = (Vec::new(), 0..0, 0_u64);
    for work in works {
        if !part.is_empty() && sum.saturating_add(work) > most {
            parts.push(part.clone());
            (part, sum) = (part.end..part.end, 0);
        }
        part.end += 1;
        sum = sum.saturating_add(work);
    }
    parts.push(part);
    parts
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
    use super::{MAX_SUBMISSION_WORK, group_work, split};
    use crate::device::kernel::KernelKind;
    use crate::layout::Form;

    #[test]
    fn submissions_are_bounded_in_order_and_hold_every_command() {
        let of = |works: &[u64]| split(works.iter().copied(), 10);
        assert!(matches!(&of(&[])[..], [part] if part.is_empty()));
        assert_eq!(of(&[4, 6, 1]), [0..2, 2..3]);
        assert_eq!(of(&[11, 1, 9, 1]), [0..1, 1..3, 3..4]);
        assert_eq!(of(&[1, u64::MAX, 1]), [0..1, 1..2, 2..3]);
        let works: Vec<u64> = (0..1000).map(|index| index * 7919 % 13).collect();
        let parts = of(&works);
        assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((parts[0].start, parts.last().unwrap().end), (0, 1000));
        let too_much =
            |part: &std::ops::Range<usize>| part.len() > 1 && works[part.clone()].iter().sum::<u64>() > 10;
        assert!(!parts.iter().any(too_much));
    }

    #[test]
    fn a_prompt_of_a_model_of_7b_takes_many_submissions_and_a_token_of_it_one() {
        // Rows of the linears of a layer; 72 tokens are five tiles of 16.
        let rows = [4096_u64, 4096, 4096, 4096, 11_008, 11_008, 4096];
        let submissions = |tile, tiles| {
            let kernel = group_work(KernelKind::Product(Form::Sparse, tile));
            let layers = (0..32).flat_map(|_| rows).map(|rows| rows / 32 * tiles * kernel);
            split(layers, MAX_SUBMISSION_WORK).len()
        };
        assert_eq!(submissions(1, 1), 1);
        assert!((50..100).contains(&submissions(16, 5)), "{}", submissions(16, 5));
    }
}
