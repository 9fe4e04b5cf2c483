import { AppError } from '@copal/shared/errors.ts'
import type { LogitKernels } from './logit-kernels.ts'
import { createSampler, type Sampler } from './token-sampler.ts'
import type { SequenceWork } from '../contract/backend.ts'

/** The samplers of the sequences of one weight set. */
export interface Samplers {
  /**
   * Tells the sequence's sampler of the work's tokens; with the first chunk it gets a new one.
   *
   * @returns `undefined` for a sequence that does not sample
   * @throws AppError `internal_error` when the work samples and no sampler was ever given
   */
  accept(work: SequenceWork): Sampler | undefined
  /** Forgets a sequence. */
  drop(sequence: number): void
}

/** No samplers; those to come share the loops and so must not run at the same time. */
export function createSamplers(loops: LogitKernels): Samplers {
  const samplers = new Map<number, Sampler>()
  return {
    accept(work) {
      const { sequence, tokens, position, cached } = work
      if (position === 0 || cached) samplers.delete(sequence)
      if (work.sampler) samplers.set(sequence, createSampler(work.sampler, loops))
      const sampler = samplers.get(sequence)
      if (work.output === 'token' && !sampler) throw misfit(work, 'it samples, but no sampler was given')
      if (cached) sampler?.observe(cached, 0)
      sampler?.observe(tokens, position)
      return sampler
    },
    drop: (sequence) => void samplers.delete(sequence),
  }
}

/** @throws AppError `internal_error` when a sequence has two pieces of work in one step */
export function requireDistinct(work: readonly SequenceWork[]): void {
  if (new Set(work.map(({ sequence }) => sequence)).size === work.length) return
  throw new AppError(
    'internal_error',
    'A step has two pieces of work for one sequence, expected at most one.',
  )
}

/** Work that a scheduler should not have made. */
export function misfit({ sequence }: SequenceWork, why: string): AppError {
  return new AppError('internal_error', `The work of sequence ${sequence} does not fit: ${why}.`)
}
