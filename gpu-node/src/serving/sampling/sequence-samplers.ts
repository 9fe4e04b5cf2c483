import { AppError } from '@copal/shared/errors.ts'
import type { LogitKernels } from './logit-kernels.ts'
import { createSampler, type Sampler } from './token-sampler.ts'
import type { SequenceWork } from '../contract/backend.ts'

/** The samplers of the sequences of one weight set. */
export interface Samplers {
  /**
   * Passes the tokens of the work, but its drafts, to the sampler of its sequence, which is created with the first chunk.
   *
   * @returns the sampler; `undefined` for a sequence that does not sample
   * @throws AppError `internal_error` when the work samples but its sequence has no sampler
   */
  accept(work: SequenceWork): Sampler | undefined
  /** Forgets a sequence. */
  drop(sequence: number): void
}

/** Creates an empty set of samplers. They share the kernels, so they must not run at the same time. */
export function createSamplers(kernels: LogitKernels): Samplers {
  const samplers = new Map<number, Sampler>()
  return {
    accept(work) {
      const { sequence, tokens, position, cached } = work
      if (position === 0 || cached) samplers.delete(sequence)
      if (work.sampler) samplers.set(sequence, createSampler(work.sampler, kernels))
      const sampler = samplers.get(sequence)
      if (work.output === 'token' && !sampler) throw invalidWork(work, 'it samples, but no sampler was given')
      if (cached) sampler?.observe(cached, 0)
      sampler?.observe(tokens.subarray(0, tokens.length - (work.drafts ?? 0)), position)
      return sampler
    },
    drop: (sequence) => void samplers.delete(sequence),
  }
}

/**
 * Checks that each sequence has at most one piece of work in a step.
 *
 * @throws AppError `internal_error`
 */
export function requireDistinct(work: readonly SequenceWork[]): void {
  if (new Set(work.map(({ sequence }) => sequence)).size === work.length) return
  throw new AppError(
    'internal_error',
    'A step has two pieces of work for one sequence, expected at most one.',
  )
}

/**
 * Checks that work has as many targets as tokens, where it has targets.
 *
 * @throws AppError `internal_error`
 */
export function requireTargets(work: SequenceWork): void {
  const { tokens, targets, output, promptScores } = work
  const missing = output === 'nll' ? 0 : tokens.length
  const given = (targets ?? promptScores?.targets)?.length ?? missing
  if (given !== tokens.length) throw invalidWork(work, `it has ${given} targets for ${tokens.length} tokens`)
}

/** Creates the error for work that violates the contract of backends. */
export function invalidWork({ sequence }: SequenceWork, why: string): AppError {
  return new AppError('internal_error', `The work of sequence ${sequence} does not fit: ${why}.`)
}
