import { createHash, type Hash } from 'node:crypto'
import { readdirSync, renameSync, symlinkSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Artifact } from '../../../../gpu-node/src/pruning/statistics/statistics-artifact.ts'
import {
  LINEAR_INPUT,
  statisticTensorSizes,
} from '../../../../gpu-node/src/pruning/statistics/statistic-names.ts'
import { createCalibrationPass } from '../../../../gpu-node/src/pruning/calibration/calibration-pass.ts'
import { openPartial } from '../../../../gpu-node/src/pruning/statistics/partial-artifact.ts'
import type { TokenSequences } from '../../../../gpu-node/src/pruning/calibration/token-sequences.ts'
import { accumulateStatistic } from '../../../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { CHUNK_TOKENS, cutChunks } from '../../../../gpu-node/src/pruning/calibration/token-chunks.ts'
import { momentPanels } from '../../../../gpu-node/src/pruning/calibration/calibration-graph.ts'
import { BLOCK_LINEARS, linearShape } from '../../../../gpu-node/src/model/config/llama-config.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { referenceBlock, type Matrix } from '../../../support/models/reference-block.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'

let tiny: TinyModel

beforeAll(async () => {
  // Wide enough that the second moment of down_proj has several panels, of which the last is narrow.
  tiny = await openTinyModel({ layers: 2, intermediateSize: 400 })
})

afterAll(() => tiny.remove())

function randomSequences(sequences: number, length: number): TokenSequences {
  const random = createRandom(sequences)
  const tokens = Int32Array.from({ length: sequences * length }, () =>
    Math.floor(random() * tiny.model.config.vocabSize),
  )
  return { tokens, sequences, length }
}

/** Calibrates in `dir`, continuing where an earlier run stopped. */
async function calibrate(
  dir: string,
  sequences: TokenSequences,
  onBlock: (done: number) => void = () => undefined,
): Promise<Artifact> {
  const pass = await createCalibrationPass(tiny.model, sequences.length, 1)
  try {
    const partial = await openPartial(dir, 'part')
    await pass.run(sequences, partial, onBlock)
    const part = { id: 'part', datasetSha256: '', domain: 'sea', tokens: sequences.tokens.length }
    return await partial.publish(tiny.model.master.baseSha256, part)
  } finally {
    await pass.release()
  }
}

test('sums over several chunks, the last of them short, equal those of an f64 forward pass', async () => {
  const { config } = tiny.model
  const sequences = randomSequences(70, 64)
  const chunks = cutChunks(sequences)
  expect(chunks.map(({ batch }) => batch)).toEqual([32, 32, 6])
  expect(momentPanels(400).length).toBeGreaterThan(1)
  expect(chunks[0]!.batch * 64).toBe(CHUNK_TOKENS)
  const artifact = await calibrate(temporaryDir(), sequences)
  expect(artifact.blocks).toHaveLength(2)
  let batch = embedded(sequences)
  for (let layer = 0; layer < config.layers; layer++) {
    const traces = batch.map((hidden) => referenceBlock(config, tiny.tensors, layer, hidden))
    for (const linear of BLOCK_LINEARS) {
      const [rows, cols] = linearShape(config, linear)
      const x = traces.flatMap(({ inputs }) => inputs[linear])
      const y = traces.flatMap(({ outputs }) => outputs[linear])
      const dot = (f: (token: number) => number) => x.reduce((sum, _, token) => sum + f(token), 0)
      const sensitivity = await accumulateStatistic([artifact], layer, `${linear}.sensitivity`)
      const moment = await accumulateStatistic([artifact], layer, `${LINEAR_INPUT[linear]}.second_moment`)
      const norm = await accumulateStatistic([artifact], layer, `${LINEAR_INPUT[linear]}.square_norm`)
      for (let at = 3; at < rows * cols; at += 997) {
        const expected = dot((t) => Math.abs(y[t]![Math.floor(at / cols)]! * x[t]![at % cols]!))
        expect(Math.abs(sensitivity[at]! / expected - 1)).toBeLessThan(2e-4)
      }
      for (let a = 0, at = 0; a < cols; a++) {
        expect(norm[a]).toBe(moment[at])
        for (let b = a; b < cols; b++, at++) {
          if (at % 499 !== 0 && !(a === b && a % 23 === 0)) continue
          const scale = dot((t) => (x[t]![a]! ** 2 + x[t]![b]! ** 2) / 2)
          expect(Math.abs(moment[at]! - dot((t) => x[t]![a]! * x[t]![b]!)) / scale).toBeLessThan(2e-4)
        }
      }
    }
    batch = traces.map(({ hidden }) => hidden)
  }
})

test('the statistics of two halves add up to those of the whole', async () => {
  const whole = randomSequences(64, 64)
  const half = (first: number): TokenSequences => ({
    ...whole,
    sequences: 32,
    tokens: whole.tokens.slice(first * 64, (first + 32) * 64),
  })
  const [all, ...halves] = [
    await calibrate(temporaryDir(), whole),
    await calibrate(temporaryDir(), half(0)),
    await calibrate(temporaryDir(), half(32)),
  ]
  for (const [name, length] of statisticTensorSizes(tiny.model.config)) {
    const [sum, sums] = [
      await accumulateStatistic([all], 1, name),
      await accumulateStatistic(halves, 1, name),
    ]
    expect(sum).toHaveLength(length)
    const scale = sums.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    let worst = 0
    for (let i = 0; i < length; i++) worst = Math.max(worst, Math.abs(sum[i]! - sums[i]!) / scale)
    expect(worst).toBeLessThan(1e-6)
  }
})

test.each(['block-0001.safetensors', 'hidden-2.f32'])(
  'a disk that is full at %s is an error that explains it, and the next run continues after the committed blocks',
  async (file) => {
    const dir = temporaryDir()
    const sequences = randomSequences(4, 32)
    const partialDir = () => join(dir, 'partial', readdirSync(join(dir, 'partial'))[0]!)
    // Every write to it fails as if the disk were full.
    const fill = () => symlinkSync('/dev/full', join(partialDir(), file))
    await expect(calibrate(dir, sequences, fill)).rejects.toMatchObject({
      code: 'internal_error',
      message: expect.stringMatching(/^No disk space left in .* Free some.* goes on at the block/) as string,
    })
    const left = readdirSync(partialDir()).filter((name) => name !== 'block-0001.safetensors')
    expect(left.sort()).toEqual(['block-0000.safetensors', 'hidden-1.f32', 'progress.json'])
    const done: number[] = []
    const resumed = await calibrate(dir, sequences, (block) => done.push(block))
    expect(done).toEqual([2])
    expect(resumed.blocks).toEqual((await calibrate(temporaryDir(), sequences)).blocks)
    expect(readdirSync(resumed.dir).sort()).toEqual([
      'block-0000.safetensors',
      'block-0001.safetensors',
      'manifest.json',
    ])
  },
)

test.each([
  ['of a container that was made anew', 'a-name-that-nobody-has~7'],
  ['whose pid another process has by now', `${hostname()}~1`],
])('the partial artifact that a process left %s is resumed, and no other files stay', async (_who, owner) => {
  const dir = temporaryDir()
  const sequences = randomSequences(4, 32)
  const stop = (done: number) => {
    if (done === 1) throw new Error('killed')
  }
  await expect(calibrate(dir, sequences, stop)).rejects.toThrow('killed')
  const [left] = readdirSync(join(dir, 'partial'))
  renameSync(join(dir, 'partial', left!), join(dir, 'partial', `part~${owner}`))
  const done: number[] = []
  await calibrate(dir, sequences, (block) => done.push(block))
  expect(done).toEqual([2])
  expect(readdirSync(join(dir, 'partial'))).toEqual([])
})

test('an orphaned process cannot write into a partial artifact that another process resumed', async () => {
  const dir = temporaryDir()
  const hidden = new Float32Array(8)
  const tensors = [{ name: 'sum', dtype: 'F32' as const, length: 8, load: () => new Float32Array(8) }]
  const orphan = await openPartial(dir, 'part')
  await orphan.commitBlock(tensors, hidden)
  await orphan.writeBlock(tensors)
  const next = await openPartial(dir, 'part')
  expect(next.blocksDone).toBe(1)
  expect(readdirSync(next.dir).sort()).toEqual(['block-0000.safetensors', 'hidden-1.f32', 'progress.json'])
  await expect(orphan.commitBlock(tensors, hidden)).rejects.toThrow('ENOENT')
  await next.commitBlock(tensors, hidden)
  expect(next.blocksDone).toBe(2)
})

test('hidden states of any size are resumed: they are hashed in pieces, because a hash takes less than 2 GiB at a time', async () => {
  const dir = temporaryDir()
  const hidden = new Float32Array(2 ** 22).fill(0.5)
  const tensors = [{ name: 'sum', dtype: 'F32' as const, length: 8, load: () => new Float32Array(8) }]
  const update = vi.spyOn(Object.getPrototypeOf(createHash('sha256')) as Hash, 'update')
  try {
    await (await openPartial(dir, 'part')).commitBlock(tensors, hidden)
    const resumed = await openPartial(dir, 'part')
    expect(resumed.blocksDone).toBe(1)
    expect(resumed.hidden).toEqual(hidden)
    for (const [data] of update.mock.calls) expect(data.length).toBeLessThan(hidden.byteLength)
  } finally {
    update.mockRestore()
  }
})

function embedded({ tokens, sequences, length }: TokenSequences): Matrix[] {
  const { hiddenSize } = tiny.model.config
  const { values } = tiny.tensors.get('model.embed_tokens.weight')!
  return Array.from({ length: sequences }, (_, sequence) =>
    [...tokens.subarray(sequence * length, (sequence + 1) * length)].map((token) => [
      ...values.subarray(token * hiddenSize, (token + 1) * hiddenSize),
    ]),
  )
}
