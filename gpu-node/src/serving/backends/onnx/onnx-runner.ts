import { createScriptLogitKernels, negativeLogLikelihood } from '../../sampling/logit-kernels.ts'
import { mostProbable, type Sampler } from '../../sampling/token-sampler.ts'
import type { InferenceSession } from '../../../pruning/graph/onnx-runtime.ts'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { PromptScoring, SequenceOutput, SequenceWork, TokenScores } from '../../contract/backend.ts'
import { failedOutput } from '../../contract/failed-output.ts'
import { createTokenScores, requireFiniteScores, scoredTargets } from '../../contract/token-scores.ts'
import {
  createSamplers,
  invalidWork,
  requireDistinct,
  requireTargets,
} from '../../sampling/sequence-samplers.ts'
import { runForward, runSequence, type BatchMember } from '../../../pruning/graph/decoder-forward.ts'
import { KeyValueCache, type SequenceSlot, type Slab } from '../../../pruning/graph/key-value-cache.ts'

/**
 * Most tokens of one run. Longer chunks are split, so that the activations of a run stay in the processor's caches and the
 * memory of scores and logits stays bounded.
 */
const MAX_RUN_TOKENS = 256

/** Rows whose logits are in memory at a time while a prompt is scored. */
const SCORED_ROWS = 32

/** Runs the steps of one weight set. Not reentrant. */
export interface Runner {
  /** Runs a step. @throws AppError when the work does not fit the held sequences */
  step(work: readonly SequenceWork[], drop: readonly number[]): Promise<SequenceOutput[]>
  /** Returns the memory used, for checks. */
  usage(): KeyValueCache['usage']
}

interface Item {
  work: SequenceWork
  place: SequenceSlot
  sampler: Sampler | undefined
}

/** Creates a runner for a session of the decoder graph. */
export function createRunner(session: InferenceSession, config: LlamaConfig): Runner {
  const cache = new KeyValueCache(config)
  const kernels = createScriptLogitKernels(config.vocabSize)
  const samplers = createSamplers(kernels)

  const accept = (work: SequenceWork): Item => {
    const { sequence, tokens, position } = work
    const held = cache.lengthOf(sequence)
    if (tokens.length === 0) throw invalidWork(work, 'it has no tokens')
    if (position > held) throw invalidWork(work, `it starts at position ${position}, ${held} tokens are held`)
    requireTargets(work)
    const sampler = samplers.accept(work)
    return { work, place: cache.reserve(sequence, position, position + tokens.length), sampler }
  }

  const finish = async (
    { work, sampler }: Item,
    logits: Float32Array,
    scored: { promptScores?: TokenScores } = {},
  ): Promise<SequenceOutput> => {
    if (work.output === 'none' || !sampler) return { kind: 'none', ...scored }
    const allowed = (await work.allowed) ?? null
    try {
      const token = sampler.sample(logits, work.position + work.tokens.length, allowed)
      return { kind: 'token', ...token, ...scored }
    } catch (error) {
      return failedOutput(error)
    }
  }

  /**
   * Runs a chunk of a prompt whose tokens are scored: the logits of all its tokens, a few rows at a time.
   *
   * @throws AppError `invalid_output` for a score that is not finite
   */
  const runScored = async (item: Item, { targets, alternatives }: PromptScoring): Promise<SequenceOutput> => {
    const { work, place } = item
    const { vocabSize } = config
    const promptScores = createTokenScores(scoredTargets({ targets }), alternatives)
    let row = 0
    let logits = new Float32Array()
    for (let begin = 0; begin < work.tokens.length; begin += SCORED_ROWS) {
      const tokens = work.tokens.subarray(begin, begin + SCORED_ROWS)
      const outputIndices = [...tokens.keys()]
      const member = { slot: place.slot, position: work.position + begin, tokens, outputIndices }
      const output = await runSequence(session, config, place.slab, member)
      place.length = work.position + begin + tokens.length
      for (const index of outputIndices) {
        const end = (index + 1) * vocabSize
        logits = output.logits.subarray(end - vocabSize, end)
        const target = targets[begin + index] as number
        if (target === -1) continue
        const logSumExp = kernels.logSumExp(logits)
        promptScores.logprobs[row] = (logits[target] as number) - logSumExp
        for (const [rank, { token, logprob }] of mostProbable(logits, alternatives, logSumExp).entries()) {
          promptScores.topTokens[row * alternatives + rank] = token
          promptScores.topLogprobs[row * alternatives + rank] = logprob
        }
        row += 1
      }
    }
    requireFiniteScores(promptScores)
    return finish(item, logits, { promptScores })
  }

  /** Returns the negative log-likelihoods of the targets that are not -1: one for each row of logits. */
  const losses = (rows: Float32Array, targets: Int32Array): Float32Array =>
    Float32Array.from(
      targets.filter((target) => target !== -1),
      (target, row) =>
        negativeLogLikelihood(rows.subarray(row * config.vocabSize, (row + 1) * config.vocabSize), target),
    )

  /** Runs a chunk of one sequence, in runs of at most {@link MAX_RUN_TOKENS}. */
  const runChunk = async (item: Item): Promise<SequenceOutput> => {
    const { work, place } = item
    if (work.promptScores) return runScored(item, work.promptScores).catch(failedOutput)
    const isSummed = work.output === 'hidden_sum'
    const scores: Float32Array[] = []
    const sum = new Float64Array(config.hiddenSize)
    let logits = new Float32Array()
    for (let begin = 0; begin < work.tokens.length; begin += MAX_RUN_TOKENS) {
      const tokens = work.tokens.subarray(begin, begin + MAX_RUN_TOKENS)
      const isLast = begin + tokens.length === work.tokens.length
      const member = memberOf(item, begin, tokens, isLast)
      const output = await runSequence(session, config, place.slab, member, isSummed)
      logits = output.logits
      place.length = work.position + begin + tokens.length
      if (ALONE[work.output]) scores.push(losses(logits, targetsOf(work, begin, tokens.length)))
      addRows(sum, output.hidden)
    }
    if (work.output === 'nll') return { kind: 'nll', nll: joined(scores) }
    if (!isSummed) return finish(item, logits)
    return { kind: 'hidden_sum', sum: Float32Array.from(sum), nll: joined(scores) }
  }

  /** Runs one token each of several sequences of one slab together. */
  const runTogether = async (slab: Slab, items: readonly Item[]): Promise<SequenceOutput[]> => {
    const members = items.map((item) => memberOf(item, 0, item.work.tokens, true))
    const results = await runForward(session, config, { slab, members })
    for (const item of items) item.place.length = item.work.position + 1
    const outputs: SequenceOutput[] = []
    for (const [index, { logits }] of results.entries())
      outputs.push(await finish(items[index] as Item, logits))
    return outputs
  }

  return {
    usage: () => cache.usage,

    async step(work, drop) {
      for (const sequence of drop) {
        cache.drop(sequence)
        samplers.drop(sequence)
      }
      requireDistinct(work)
      const items = work.map(accept)
      const outputs = new Map<Item, SequenceOutput>()
      const together = Map.groupBy(
        items.filter(
          ({ work: { tokens, output, promptScores } }) =>
            tokens.length === 1 && !ALONE[output] && !promptScores,
        ),
        ({ place }) => place.slab,
      )
      for (const [slab, group] of together) {
        const results = await runTogether(slab, group)
        for (const [index, item] of group.entries()) outputs.set(item, results[index] as SequenceOutput)
      }
      for (const item of items) if (!outputs.has(item)) outputs.set(item, await runChunk(item))
      return items.map((item) => outputs.get(item) as SequenceOutput)
    },
  }
}

/** Whether work runs alone, because it needs other results than the logits of its last token. */
const ALONE = { none: false, token: false, nll: true, hidden_sum: true } as const

function memberOf({ work, place }: Item, begin: number, tokens: Int32Array, isLast: boolean): BatchMember {
  const member = { slot: place.slot, position: work.position + begin, tokens }
  if (work.output === 'token') return { ...member, outputIndices: isLast ? [tokens.length - 1] : [] }
  const targets = targetsOf(work, begin, tokens.length)
  return { ...member, outputIndices: [...targets.keys()].filter((index) => targets[index] !== -1) }
}

/** Returns the targets of `count` tokens of work that is scored, from the `begin`-th on; -1 skips a token. */
function targetsOf({ targets = new Int32Array() }: SequenceWork, begin: number, count: number): Int32Array {
  return targets.subarray(begin, begin + count)
}

function addRows(sum: Float64Array, rows: Float32Array): void {
  for (let at = 0; at < rows.length; at += sum.length)
    for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (rows[at + i] as number)
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    all.set(part, offset)
    offset += part.length
  }
  return all
}
