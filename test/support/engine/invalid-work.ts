import type { ErrorCode } from '@copal/shared/errors.ts'
import type { SequenceWork } from '../../../gpu-node/src/serving/contract/backend.ts'
import { generateWork } from './backend-steps.ts'

const one = Int32Array.of(1)
const scored = (count: number, targets: number): SequenceWork => ({
  sequence: 900,
  tokens: new Int32Array(count),
  position: 0,
  output: 'nll',
  targets: new Int32Array(targets),
})

/**
 * Work that no backend takes, for weights with a context of 1,024 tokens: what is wrong with it, the work, the code of the error and a
 * part of its message.
 */
export const INVALID_WORK: [string, SequenceWork[], ErrorCode, string][] = [
  [
    'a gap',
    [{ sequence: 900, tokens: one, position: 3, output: 'none' }],
    'internal_error',
    '0 tokens are held',
  ],
  [
    'no tokens',
    [{ sequence: 900, tokens: Int32Array.of(), position: 0, output: 'none' }],
    'internal_error',
    'no tokens',
  ],
  [
    'no sampler',
    [{ sequence: 900, tokens: one, position: 0, output: 'token' }],
    'internal_error',
    'no sampler',
  ],
  ['targets', [scored(2, 1)], 'internal_error', '1 targets for 2 tokens'],
  ['twice', [generateWork(900, one), generateWork(900, one)], 'internal_error', 'two pieces of work'],
  ['too long', [scored(1025, 1025)], 'context_length_exceeded', 'the model takes 1024'],
]
