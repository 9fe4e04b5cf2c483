import { AppError } from '@copal/shared/errors.ts'
import { maskInvalid } from '@copal/shared/mask/mask-error.ts'
import type { Addon, Engine, EngineWeights, KernelName, Precision } from '../../../../native/addon.d.ts'
import { ropeFrequencies } from '../../../pruning/graph/rope.ts'
import { BLOCK_LINEARS, linearName, type LlamaConfig } from '../../../model/config/llama-config.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import { PAGE_TOKENS, type SequenceWork } from '../../contract/backend.ts'
import { DENSE_PLACE, type MaskPlaces } from './mask-locations.ts'
import { createOwnPages } from './owned-pages.ts'

/**
 * Tokens that go through the blocks together: enough to make the most of weights that are expanded, few enough
 * for activations to stay in the cache.
 */
const BATCH_TOKENS = 256

/** How a model's engine is to run. */
export interface ModelEngineOptions {
  kernel: KernelName | null
  threads: number
  precision: Precision
  headPrecision: Precision
  /** Tokens of the pages that the scheduler gives out. */
  kvTokens: number
  /** Tokens of the pages for callers that give none. */
  ownTokens: number
}

/** The addon's engine of one model, and the turns that steps of its weight sets take. */
export interface ModelEngine {
  readonly kernel: KernelName
  /** Checks what a mask keeps and packs a weight set. @throws AppError `mask_invalid`, `node_failed` */
  load(
    model: DenseModel,
    maskPath: string | null,
    places: MaskPlaces,
    threads: number,
  ): Promise<EngineWeights>
  /**
   * Runs a step, then `finish` before any other step: logits are those of the last one; `results` are
   * log-likelihoods and hidden sums of all works, joined in their order.
   *
   * @throws AppError `overloaded` when there are not enough pages for works without, `node_failed`, `internal_error`
   */
  step<T>(
    weights: EngineWeights,
    work: readonly SequenceWork[],
    drop: readonly number[],
    finish: (results: Float32Array, logits: (index: number, into: Float32Array) => void) => Promise<T>,
  ): Promise<T>
  /** Frees a weight set after its steps. */
  release(weights: EngineWeights): Promise<void>
  /** Sequences that are held, pages that were written, and pages that callers without a scheduler have. */
  usage(): { sequences: number; pages: number; ownPages: number }
  /** For tests. */
  provokePanic(): void
}

/** An engine without weights. @throws AppError `node_failed` when the addon refuses the model */
export function createModelEngine(
  addon: Addon,
  config: LlamaConfig,
  { kernel, threads, precision, headPrecision, kvTokens, ownTokens }: ModelEngineOptions,
): ModelEngine {
  const scheduled = Math.ceil(kvTokens / PAGE_TOKENS)
  const unscheduled = Math.ceil(ownTokens / PAGE_TOKENS)
  const ownPages = createOwnPages(scheduled, unscheduled)
  const engine = explained(
    () =>
      new addon.Engine(
        kernel,
        threads,
        precision,
        headPrecision,
        shapeOf(config),
        Float64Array.from(ropeFrequencies(config)),
        scheduled + unscheduled,
        BATCH_TOKENS,
      ),
  )
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
    const turn = last.then(run)
    last = turn.catch(() => undefined)
    return turn
  }

  return {
    kernel: engine.kernel,
    async load(model, maskPath, places, packThreads) {
      const tensor = placeIn(model)
      const names = Array.from({ length: config.layers }, (_, layer) =>
        BLOCK_LINEARS.map((linear) => linearName(layer, linear)),
      ).flat()
      const head = config.tiedEmbedding ? 'model.embed_tokens.weight' : 'lm_head.weight'
      const norms = Array.from({ length: config.layers }, (_, layer) =>
        ['input_layernorm', 'post_attention_layernorm'].map((norm) => `model.layers.${layer}.${norm}.weight`),
      ).flat()
      const shared = ['model.embed_tokens.weight', head, 'model.norm.weight', ...norms]
      return explain(
        engine.load(
          model.master.path,
          Float64Array.from(shared, tensor),
          Float64Array.from(names, tensor),
          maskPath,
          Float64Array.from(names.flatMap((name) => places.get(name) ?? DENSE_PLACE)),
          packThreads,
        ),
      )
    },
    step: (weights, work, drop, finish) =>
      inTurn(async () => {
        for (const sequence of drop) ownPages.give(weights, sequence)
        const pages = ownPages.take(weights, work)
        return finish(await runStep(engine, weights, work, pages, drop), (index, into) =>
          engine.logits(index, into),
        )
      }),
    release: (weights) =>
      inTurn(async () => {
        ownPages.give(weights)
        await explain(engine.release(weights))
      }),
    usage() {
      const [held, memory] = engine.usage()
      return { sequences: held, pages: memory, ownPages: ownPages.usage().pages }
    },
    provokePanic: () => engine.provokePanic(),
  }
}

const OUTPUTS = { none: 0, token: 1, nll: 2, hidden_sum: 3 } as const

function runStep(
  engine: Engine,
  weights: EngineWeights,
  work: readonly SequenceWork[],
  pages: readonly (readonly number[])[],
  drop: readonly number[],
): Promise<Float32Array> {
  const total = work.reduce((sum, { tokens }) => sum + tokens.length, 0)
  const tokens = new Int32Array(total)
  const targets = new Int32Array(total).fill(-1)
  let at = 0
  for (const item of work) {
    tokens.set(item.tokens, at)
    if (item.output === 'nll' && item.targets) targets.set(item.targets, at)
    at += item.tokens.length
  }
  return explain(
    engine.step(
      weights,
      Float64Array.from(work, ({ sequence }) => sequence),
      Int32Array.from(
        work.flatMap(({ position, tokens: { length }, output, cached }, index) => [
          position,
          length,
          OUTPUTS[output],
          cached?.length ?? 0,
          pages[index]?.length ?? 0,
        ]),
      ),
      tokens,
      targets,
      Int32Array.from(pages.flat()),
      Float64Array.from(drop),
    ),
  )
}

function shapeOf(config: LlamaConfig): Float64Array {
  return Float64Array.of(
    config.hiddenSize,
    config.layers,
    config.heads,
    config.kvHeads,
    config.headDim,
    config.intermediateSize,
    config.vocabSize,
    config.contextLength,
    config.rmsNormEps,
  )
}

function placeIn({ master }: DenseModel): (name: string) => number {
  return (name) => {
    const tensor = master.tensors.get(name)
    if (tensor) return tensor.offset
    throw new AppError('unsupported_model', `The model's weights lack the tensor '${name}'.`)
  }
}

async function explain<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise
  } catch (thrown) {
    throw asAppError(thrown)
  }
}

/** Runs what calls the addon. @throws AppError for what it throws */
export function explained<T>(action: () => T): T {
  try {
    return action()
  } catch (thrown) {
    throw asAppError(thrown)
  }
}

/** How the addon begins when it is the mask that does not fit. */
const MASK_REFUSAL = 'not a usable mask: '
/** How it begins when it cannot have so many keys and values; it knows no settings. */
const NO_ROOM = /^(the machine has no memory for|pages must be)/

/** What the addon throws is an `Error` with a status of N-API as its code. */
function asAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  const { code, message } = thrown as { code?: unknown; message?: unknown }
  const text = String(message ?? thrown)
  if (text.startsWith(MASK_REFUSAL)) return maskInvalid(text.slice(MASK_REFUSAL.length), thrown)
  const remedy = NO_ROOM.test(text) ? ' COPAL_KV_TOKENS says how many.' : ''
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}.${remedy}`
  // A misfit is the caller's mistake; whatever else goes wrong may go right on another node.
  const isMisfit = code === 'InvalidArg' && text.startsWith('the work of sequence')
  return new AppError(isMisfit ? 'internal_error' : 'node_failed', sentence, { cause: thrown })
}
