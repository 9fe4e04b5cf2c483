/** The sparse engine against the ONNX reference, on the default model and with the same mask. */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Addon, Precision } from '../../gpu-node/native/addon.d.ts'
import { PAGE_TOKENS, type SequenceWork } from '../../gpu-node/src/serving/contract/backend.ts'
import { runSequence } from '../../gpu-node/src/pruning/graph/decoder-forward.ts'
import { KeyValueCache } from '../../gpu-node/src/pruning/graph/key-value-cache.ts'
import { createDecoderSession } from '../../gpu-node/src/pruning/graph/decoder-session.ts'
import { placesInMask } from '../../gpu-node/src/serving/backends/sparse/mask-locations.ts'
import { createModelEngine } from '../../gpu-node/src/serving/backends/sparse/model-engine.ts'
import type { DenseModel } from '../../gpu-node/src/model/master/dense-model.ts'
import { openModel } from '../../gpu-node/src/model/open-model.ts'
import { DEFAULT_MODEL } from '../../gpu-node/src/model/source/resolve-model.ts'
import { addon } from '../support/engine/backends.ts'
import { ENGINE_OPTIONS } from '../support/engine/engine-options.ts'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'
import { magnitudeHalfMask } from '../../gpu-node/bench/models/magnitude-mask.ts'

const PROMPTS = 20
/** Prompts for the dense weights: more than share a pass over them. */
const DENSE_PROMPTS = 9
const LENGTH = 64
/** Tokens of each prompt whose distributions are compared. */
const COMPARED = 32

let model: DenseModel
let workDir: string
let maskPath: string
let prompts: Int32Array[]

beforeAll(async () => {
  model = await openModel(DEFAULT_MODEL, {
    cacheDir: process.env['COPAL_CACHE'] ?? join(homedir(), '.cache', 'copal'),
  })
  workDir = await mkdtemp(join(tmpdir(), 'copal-sparse-'))
  maskPath = join(workDir, 'mask.safetensors')
  await writeFile(maskPath, await magnitudeHalfMask(model))
  const text = readFileSync(new URL('../fixtures/text/novel.evaluation.txt', import.meta.url), 'utf8')
  const ids = model.codec.encode(text)
  prompts = Array.from({ length: PROMPTS }, (_, i) =>
    Int32Array.from(ids.slice(i * 10 * LENGTH, i * 10 * LENGTH + LENGTH)),
  )
})
afterAll(() => rm(workDir, { recursive: true, force: true }))

/** Logits `[vocab]`, with what every comparison needs of them. */
interface Distribution {
  logits: Float32Array
  best: number
  logSumExp: number
}

function comparedPrompts(): Int32Array[] {
  return prompts.slice(0, DENSE_PROMPTS).map((tokens) => tokens.slice(0, COMPARED))
}

/** Returns ONNX's distribution after every token of every text. */
async function referenceOf(mask: string | null, texts: readonly Int32Array[]): Promise<Distribution[][]> {
  const { config, master } = model
  const options = {
    config,
    master,
    maskPath: mask,
    workDir,
    threads: 2,
    background: false,
  } as const
  const session = await createDecoderSession(options)
  await rm(join(workDir, 'masked.f32'), { force: true })
  const all: Distribution[][] = []
  for (const tokens of texts) {
    const { slab } = new KeyValueCache(config).reserve(0, 0, tokens.length)
    const member = { slot: 0, position: 0, tokens, outputIndices: [...tokens.keys()] }
    const { logits } = await runSequence(session, config, slab, member)
    all.push(
      Array.from(tokens, (_, i) =>
        distributionOf(logits.slice(i * config.vocabSize, (i + 1) * config.vocabSize)),
      ),
    )
  }
  await session.release()
  return all
}

/** Measures the divergence and the greedy choices of the sparse engine, token by token, over the prompts of the reference. */
async function compare(
  built: Addon,
  [precision, headPrecision]: readonly [Precision, Precision],
  mask: string | null,
  reference: Distribution[][],
) {
  const { config, master } = model
  const used = prompts.slice(0, reference.length)
  const ownTokens = used.length * (COMPARED + PAGE_TOKENS)
  const options = { ...ENGINE_OPTIONS, precision, headPrecision, kvTokens: PAGE_TOKENS, ownTokens }
  const engine = createModelEngine(built, config, options)
  const places = mask === null ? new Map() : await placesInMask(mask, config, master)
  const weights = await engine.load(model, mask, places, 2)
  const logits = new Float32Array(config.vocabSize)
  let divergence = 0
  let different = 0
  let widestGap = 0
  for (let position = 0; position < COMPARED; position++) {
    const work = used.map((tokens, sequence): SequenceWork => ({
      sequence,
      tokens: tokens.slice(position, position + 1),
      position,
      output: 'token',
    }))
    await engine.step(weights, work, [], async (_, read) => {
      for (const index of used.keys()) {
        read(index, logits)
        const expected = reference[index]![position]!
        const found = distributionOf(logits)
        divergence += kullbackLeibler(expected, found)
        if (found.best === expected.best) continue
        different += 1
        widestGap = Math.max(widestGap, expected.logits[expected.best]! - expected.logits[found.best]!)
      }
    })
  }
  await engine.release(weights)
  return { divergence: divergence / (used.length * COMPARED), different, widestGap }
}

/** Returns each prompt with {@link LENGTH} greedy tokens. `batches` are the numbers of prompts that run at once. */
async function generate(built: Addon, mask: string, batches: readonly number[]): Promise<Int32Array[]> {
  const { config, master } = model
  const ownTokens = PROMPTS * (2 * LENGTH + PAGE_TOKENS)
  const options = { ...ENGINE_OPTIONS, kvTokens: PAGE_TOKENS, ownTokens }
  const engine = createModelEngine(built, config, options)
  const weights = await engine.load(model, mask, await placesInMask(mask, config, master), 2)
  const logits = new Float32Array(config.vocabSize)
  const texts = prompts.map((tokens) => [...tokens])
  let first = 0
  for (const size of batches) {
    const batch = texts.slice(first, first + size)
    const fed = batch.map(() => 0)
    for (let token = 0; token < LENGTH; token++) {
      const work = batch.map((text, index): SequenceWork => ({
        sequence: first + index,
        tokens: Int32Array.from(text.slice(fed[index])),
        position: fed[index]!,
        output: 'token',
      }))
      await engine.step(weights, work, [], async (_, read) => {
        for (const [index, text] of batch.entries()) {
          fed[index] = text.length
          read(index, logits)
          text.push(largest(logits))
        }
      })
    }
    first += size
  }
  await engine.release(weights)
  return texts.map((text) => Int32Array.from(text))
}

function kullbackLeibler(expected: Distribution, found: Distribution): number {
  let sum = 0
  for (let i = 0; i < expected.logits.length; i++) {
    const logprob = expected.logits[i]! - expected.logSumExp
    sum += Math.exp(logprob) * (logprob - (found.logits[i]! - found.logSumExp))
  }
  return sum
}

function distributionOf(logits: Float32Array): Distribution {
  const best = largest(logits)
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i]! - logits[best]!)
  return { logits, best, logSumExp: logits[best]! + Math.log(sum) }
}

/** Returns the index of the first largest value. A loop, because `reduce` takes twenty times as long. */
function largest(logits: Float32Array): number {
  let best = 0
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i
  return best
}

if (addon) testAddon(addon)
else skipWithoutAddon('the sparse engine with a real model')

function testAddon(built: Addon): void {
  let greedyTexts: Int32Array[]
  /** After every token of the greedy texts under the mask. They begin with the prompts, so one pass serves both. */
  let maskedReference: Distribution[][]

  beforeAll(async () => {
    // One prompt, a few, and more than share a pass over the weights take different paths through the kernels.
    greedyTexts = await generate(built, maskPath, [1, 2, 3, 14])
    maskedReference = await referenceOf(maskPath, greedyTexts)
  })

  // The most probable token may change where the best two were closer than the precision. The measurements are in
  // docs/measurements/engine-avx2.md: int8 has a divergence of 1.3e-3, a third of which is one token of 1,280 with 0.5. A head
  // in int4 has 7.4e-2 and gaps of up to 1.6 logits, so it is optional.
  test.each([
    {
      masked: true,
      precisions: [
        [['bf16', 'int8'], 1e-3, 0.3],
        [['bf16', 'bf16'], 1e-3, 0.3],
        [['int8', 'int8'], 5e-3, 0.5],
      ] as const,
    },
    {
      masked: false,
      precisions: [
        [['bf16', 'int8'], 1e-3, 0.3],
        [['int4', 'int8'], 1e-2, 0.5],
        [['int4', 'int4'], 1e-1, 2.5],
      ] as const,
    },
  ])(
    'distributions and greedy choices equal those of ONNX within the precision, masked: $masked',
    async ({ masked, precisions }) => {
      const mask = masked ? maskPath : null
      const reference = masked ? maskedReference : await referenceOf(null, comparedPrompts())
      for (const [precision, mostDivergence, mostGap] of precisions) {
        const found = await compare(built, precision, mask, reference)
        process.stderr.write(`${precision.join(', head ')}, masked ${masked}: ${JSON.stringify(found)}\n`)
        expect(found.divergence).toBeLessThan(mostDivergence)
        expect(found.widestGap).toBeLessThan(mostGap)
      }
    },
  )

  test('greedy texts of 64 tokens equal those of ONNX, except where its best two tokens are equally good', () => {
    const gaps = greedyTexts.flatMap((text, index) =>
      Array.from(text.slice(LENGTH), (token, offset) => {
        const { logits, best } = maskedReference[index]![LENGTH + offset - 1]!
        return logits[best]! - logits[token]!
      }),
    )
    const others = gaps.filter((gap) => gap > 0)
    process.stderr.write(
      `greedy: ${others.length} of ${gaps.length} others, ${Math.max(...gaps)} logits at most\n`,
    )
    expect(gaps).toHaveLength(PROMPTS * LENGTH)
    expect(Math.max(...gaps)).toBeLessThan(0.2)
    expect(others.length).toBeLessThan(0.05 * gaps.length)
  })
}
