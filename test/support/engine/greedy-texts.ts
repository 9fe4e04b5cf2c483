import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PAGE_TOKENS, type SequenceWork } from '../../../gpu-node/src/serving/contract/backend.ts'
import { runSequence } from '../../../gpu-node/src/pruning/graph/decoder-forward.ts'
import { KeyValueCache } from '../../../gpu-node/src/pruning/graph/key-value-cache.ts'
import { createDecoderSession } from '../../../gpu-node/src/pruning/graph/decoder-session.ts'
import { placesInMask } from '../../../gpu-node/src/serving/backends/sparse/mask-locations.ts'
import {
  type AddonEngine,
  type ModelEngine,
  type ModelEngineOptions,
} from '../../../gpu-node/src/serving/backends/sparse/model-engine.ts'
import type { LlamaConfig } from '../../../gpu-node/src/model/config/llama-config.ts'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'

/** Logits `[vocab]` of one position, with what every comparison needs of them. */
export interface Distribution {
  logits: Float32Array
  best: number
  logSumExp: number
}

/** An engine of an addon under test, without the sizes of its caches. */
export interface TestedEngine<E extends AddonEngine> {
  create: (config: LlamaConfig, options: ModelEngineOptions) => ModelEngine<E> | Promise<ModelEngine<E>>
  options: Omit<ModelEngineOptions, 'kvTokens' | 'ownTokens'>
}

/** How far an engine is from the reference, over all compared positions. */
export interface Difference {
  /** Mean Kullback-Leibler divergence, in nats. */
  divergence: number
  /** Positions whose most probable token differs. */
  different: number
  /** The most that the reference prefers its best token to that of the engine, in logits. */
  widestGap: number
}

/** Returns ONNX's distribution after every token of every text. */
export async function referenceDistributions(
  { config, master }: DenseModel,
  maskPath: string | null,
  texts: readonly Int32Array[],
  workDir: string,
): Promise<Distribution[][]> {
  const session = await createDecoderSession({
    config,
    master,
    maskPath,
    workDir,
    threads: 2,
  })
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

/** Compares an engine with the reference after each of the first `length` tokens of the texts, which run together. */
export async function compareDistributions<E extends AddonEngine>(
  { create, options }: TestedEngine<E>,
  model: DenseModel,
  maskPath: string | null,
  texts: readonly Int32Array[],
  reference: readonly Distribution[][],
  length: number,
): Promise<Difference> {
  const { config, master } = model
  const ownTokens = texts.length * (length + PAGE_TOKENS)
  const engine = await create(config, { ...options, kvTokens: PAGE_TOKENS, ownTokens })
  const places = maskPath === null ? new Map() : await placesInMask(maskPath, config, master)
  const weights = await engine.load(model, maskPath, places, 2)
  const logits = new Float32Array(config.vocabSize)
  let divergence = 0
  let different = 0
  let widestGap = 0
  for (let position = 0; position < length; position++) {
    const work = texts.map((tokens, sequence): SequenceWork => ({
      sequence,
      tokens: tokens.slice(position, position + 1),
      position,
      output: 'token',
    }))
    await engine.step(weights, work, [], async (_, { read }) => {
      for (const index of texts.keys()) {
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
  return { divergence: divergence / (texts.length * length), different, widestGap }
}

/**
 * Returns each prompt with `length` greedy tokens.
 *
 * @param batches the numbers of prompts that run at once
 */
export async function greedyTexts<E extends AddonEngine>(
  { create, options }: TestedEngine<E>,
  model: DenseModel,
  maskPath: string | null,
  prompts: readonly Int32Array[],
  { length, batches }: { length: number; batches: readonly number[] },
): Promise<Int32Array[]> {
  const { config, master } = model
  const ownTokens = prompts.reduce((sum, prompt) => sum + prompt.length + length + PAGE_TOKENS, 0)
  const engine = await create(config, { ...options, kvTokens: PAGE_TOKENS, ownTokens })
  const places = maskPath === null ? new Map() : await placesInMask(maskPath, config, master)
  const weights = await engine.load(model, maskPath, places, 2)
  const logits = new Float32Array(config.vocabSize)
  const texts = prompts.map((tokens) => [...tokens])
  let first = 0
  for (const size of batches) {
    const batch = texts.slice(first, first + size)
    const fed = batch.map(() => 0)
    for (let token = 0; token < length; token++) {
      const work = batch.map((text, index): SequenceWork => ({
        sequence: first + index,
        tokens: Int32Array.from(text.slice(fed[index])),
        position: fed[index]!,
        output: 'token',
      }))
      await engine.step(weights, work, [], async (_, { read }) => {
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

/** Returns by how many logits the reference prefers its own token to each of the last `length` of each text; 0 where it is the same. */
export function greedyGaps(
  texts: readonly Int32Array[],
  reference: readonly Distribution[][],
  length: number,
): number[] {
  return texts.flatMap((text, index) =>
    Array.from(text.slice(-length), (token, offset) => {
      const { logits, best } = reference[index]![text.length - length + offset - 1]!
      return logits[best]! - logits[token]!
    }),
  )
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
