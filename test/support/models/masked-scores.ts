import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { expect } from 'vitest'
import { randomHalfMask } from './random-masks.ts'
import { logSoftmax, referenceLogits } from './reference-model.ts'
import { temporaryDir } from '../harness/temporary.ts'
import type { TinyModel } from './tiny-model.ts'

/** A text that backends score. Each target follows its token. */
export const TOKENS = Int32Array.from([7, 100, 33, 250, 9, 1, 64, 200])
export const TARGETS = Int32Array.from([100, 33, 250, 9, 1, 64, 200, 5])

/** Returns the negative log-likelihoods in f64 arithmetic, with the pruned weights set to zero. */
export function expectedScores(
  tiny: TinyModel,
  linears = new Map<string, { cols: number; bits: Uint8Array }>(),
): number[] {
  const tensors = new Map(tiny.tensors)
  for (const [name, { cols, bits }] of linears) {
    const { values, ...rest } = tensors.get(name)!
    const rowBytes = Math.ceil(cols / 8)
    const pruned = values.map((value, i) => {
      const col = i % cols
      return (bits[Math.floor(i / cols) * rowBytes + (col >> 3)]! >> (col & 7)) & 1 ? value : 0
    })
    tensors.set(name, { ...rest, values: pruned })
  }
  const rows = referenceLogits(tiny.model.config, tensors, [...TOKENS]).map(logSoftmax)
  return [...TARGETS].map((target, i) => -rows[i]![target]!)
}

/** Writes the file of a {@link randomHalfMask}, with its bytes changed by `change`. */
export async function halfMaskFile(
  model: DenseModel,
  seed: number,
  change?: (bytes: Uint8Array) => Uint8Array,
  base?: string,
): Promise<string> {
  const { bytes } = randomHalfMask(model, seed, base)
  const path = join(temporaryDir(), 'mask.safetensors')
  await writeFile(path, change ? change(bytes) : bytes)
  return path
}

/** Mask files that every backend must reject: the fault, the error code, a part of the message, the file. */
export const INVALID_MASKS: [string, ErrorCode, string, (model: DenseModel) => Promise<string>][] = [
  [
    'another model',
    'mask_base_mismatch',
    'made for other dense weights',
    (model) => halfMaskFile(model, 1, undefined, 'f'.repeat(64)),
  ],
  [
    'a truncated file',
    'mask_invalid',
    '',
    (model) => halfMaskFile(model, 1, (bytes) => bytes.subarray(0, bytes.length - 9)),
  ],
  [
    'no mask at all',
    'mask_invalid',
    '',
    (model) => halfMaskFile(model, 1, () => Buffer.from('not a mask file, but text')),
  ],
  [
    'a flipped bit',
    'mask_invalid',
    'keeps',
    (model) =>
      halfMaskFile(model, 1, (bytes) => {
        bytes[bytes.length - 1]! ^= 1
        return bytes
      }),
  ],
  ['a missing file', 'node_failed', 'ENOENT', async () => join(temporaryDir(), 'absent')],
]

/** Returns the AppError that a promise rejects with. */
export async function appErrorOf(promise: Promise<unknown>): Promise<AppError> {
  const failure: unknown = await promise.catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(AppError)
  return failure as AppError
}
