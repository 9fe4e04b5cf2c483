import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeMask, encodeMask, type MaskLinear } from '@copal/shared/mask/mask-codec.ts'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { SequenceOutput } from '../../../../gpu-node/src/serving/contract/backend.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'
import { readTensorEntries } from '../../../../gpu-node/src/model/formats/safetensors.ts'
import { addon, BACKENDS, type TestedBackend } from '../../../support/engine/backends.ts'
import { GREEDY } from '../../../../gpu-node/src/serving/contract/greedy.ts'
import { skipWithoutAddon } from '../../../support/harness/skip-without-addon.ts'
import { randomHalfMask } from '../../../support/models/random-masks.ts'
import { writeSafetensors, type StoredTensor } from '../../../support/models/safetensors-writer.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

const Q = 'model.layers.0.self_attn.q_proj.weight'
const DOWN = 'model.layers.1.mlp.down_proj.weight'
const TOKENS = Int32Array.from([7, 100, 33, 250, 9, 1, 64, 200])
const TARGETS = Int32Array.from([100, 33, 250, 9, 1, 64, 200, 5])

let tiny: TinyModel

beforeAll(async () => {
  // 20 columns, so that rows of a mask end inside a byte.
  tiny = await openTinyModel({ intermediateSize: 20 })
})
afterAll(() => tiny.remove())

/** Returns every score of a prompt and the most likely next tokens, under a model and a mask file. */
async function outputs(
  { create }: TestedBackend,
  model: DenseModel,
  maskPath: string | null,
): Promise<SequenceOutput[]> {
  const backend = create(temporaryDir())
  const version = maskPath === null ? 0 : 1
  const weights = await backend.load({ model, version, maskPath, priority: 'serving' })
  onTestFinished(() => backend.release(weights))
  const sampler = { ...GREEDY, topLogprobs: 20, promptTokens: TOKENS.length }
  const scored = { sequence: 1, tokens: TOKENS, position: 0, output: 'nll', targets: TARGETS } as const
  const sampled = { sequence: 2, tokens: TOKENS, position: 0, output: 'token', sampler } as const
  const result = await backend.step({ weights, work: [scored, sampled], drop: [] })
  return result.outputs
}

/** Creates a model whose dense weights equal the values of a weights file in these linears. */
async function modelOf(linears: ReadonlyMap<string, MaskLinear>): Promise<DenseModel> {
  const tensors = new Map<string, StoredTensor>(tiny.tensors)
  for (const [name, { rows, cols, bits, values }] of linears) {
    const words = new Uint32Array(rows * cols)
    let at = 0
    for (let i = 0; i < words.length; i++) {
      const [row, col] = [Math.floor(i / cols), i % cols]
      if ((bits[row * Math.ceil(cols / 8) + (col >> 3)]! >> (col & 7)) & 1) words[i] = values![at++]! << 16
    }
    tensors.set(name, { shape: [rows, cols], values: new Float32Array(words.buffer) })
  }
  const path = join(temporaryDir(), 'model.safetensors')
  await writeSafetensors(path, tensors)
  const file = await open(path)
  const entries = await readTensorEntries(file, path)
  await file.close()
  return { ...tiny.model, master: { path, tensors: entries, baseSha256: 'c'.repeat(64) } }
}

async function written(bytes: Uint8Array): Promise<string> {
  const path = join(temporaryDir(), 'weights.safetensors')
  await writeFile(path, bytes)
  return path
}

if (!addon) skipWithoutAddon('the sparse engine')
describe.each(BACKENDS)('$name', (tested) => {
  test.each([[[]], [[Q, DOWN]]])(
    'a weights file serves exactly the logits of its values, with %j left dense',
    async (dense: string[]) => {
      const { bytes, linears } = randomHalfMask(tiny.model, 1, undefined, { values: true, dense })
      const served = await outputs(tested, tiny.model, await written(bytes))
      expect(served).toEqual(await outputs(tested, await modelOf(linears), null))
      expect(served).not.toEqual(
        await outputs(tested, tiny.model, await written(randomHalfMask(tiny.model, 1).bytes)),
      )
    },
  )

  test.each<[string, (linears: Map<string, MaskLinear>) => void, RegExp]>([
    [
      'a value that is not finite',
      (linears) => (linears.get(DOWN)!.values![3] = 0x7f80),
      /value 3 of tensor 'model\.layers\.1\.mlp\.down_proj\.weight' is not finite/,
    ],
    [
      'a value too few',
      (linears) => linears.set(Q, { ...linears.get(Q)!, values: linears.get(Q)!.values!.slice(1) }),
      /tensor 'model\.layers\.0\.self_attn\.q_proj\.weight' keeps 2048 weights, but has 2047 values/,
    ],
    [
      'a bit of another place',
      (linears) => (linears.get(Q)!.bits[0]! ^= 1),
      /tensor 'model\.layers\.0\.self_attn\.q_proj\.weight' row 0 keeps/,
    ],
    ['no tensor for a linear', (linears) => linears.delete(Q), /q_proj\.weight' is missing/],
  ])('a weights file with %s is not served', async (_, damage, message) => {
    const { bytes } = randomHalfMask(tiny.model, 1, undefined, { values: true })
    const { meta, linears } = decodeMask(bytes)
    const damaged = new Map(linears)
    damage(damaged)
    const path = await written(encodeMask({ meta, linears: damaged }))
    await expect(outputs(tested, tiny.model, path)).rejects.toThrow(message)
  })
})
