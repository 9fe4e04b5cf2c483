import { AppError, type ErrorCode } from '@copal/shared/errors.ts'
import { maskInvalid } from '@copal/shared/mask/mask-error.ts'
import type { GpuStep } from '../../../../gpu/addon.d.ts'
import type {
  AddonErrorCode,
  Engine,
  EngineOptions,
  EngineWeights,
  KernelName,
  KvPrecision,
  LinearName,
  LinearPlace,
  Precision,
  StepOutput,
  WeightSource,
} from '../../../../native/addon.d.ts'
import { addonErrorCode } from '../../../platform/native-addon.ts'
import { modelShape } from '../../../pruning/graph/model-shape.ts'
import { BLOCK_LINEARS, linearName, type LlamaConfig } from '../../../model/config/llama-config.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import { PAGE_TOKENS, type SequenceWork } from '../../contract/backend.ts'
import type { CandidateRequest } from '../../sampling/candidates.ts'
import { joinAdjustments } from './join-adjustments.ts'
import type { MaskPlaces } from './mask-locations.ts'
import { createOwnPages } from './owned-pages.ts'

/**
 * Tokens that pass through the blocks together: enough to amortise the expansion of weights, few enough to keep
 * activations in the cache.
 */
const BATCH_TOKENS = 256

/** Tokens for self-tests, which use two sequences shorter than a page. Fewer than eight sets load at once. */
export const SELF_TEST_TOKENS = 8 * 2 * PAGE_TOKENS

/** The common part of the engines of the native addon and of the GPU addon. */
export interface AddonEngine extends Pick<
  Engine,
  'load' | 'loadCancellation' | 'logits' | 'release' | 'close' | 'usage' | 'provokePanic'
> {
  readonly kernel: string
  /** Candidates that a step returns in place of logits; absent where it always returns logits. */
  readonly candidates?: number
  /** Tokens that each of those lists leaves out, at most, because their logits are adjusted; absent where there are none. */
  readonly maxAdjusted?: number
  /** As `Engine.step`; adjustments are for an engine with candidates. */
  step(weights: EngineWeights, step: GpuStep): Promise<Float32Array>
  /** Downloads rows of logits of works with candidates; absent where there are none. */
  downloadLogits?(rows: Int32Array): Promise<void>
  /** Absent where new weights are tried in steps. */
  tryOut?: Engine['tryOut']
}

/** The options of an addon's engine. `device` is for the GPU addon. */
type AddonEngineOptions = EngineOptions & { device?: string | undefined }

/** The class of an addon that {@link createModelEngine} needs. */
export interface EngineAddon<E extends AddonEngine> {
  Engine: new (options: AddonEngineOptions) => E
}

/** Settings of a model's engine. */
export interface ModelEngineOptions {
  /** A part of the name of the GPU; the best of the machine by default. */
  device?: string | undefined
  kernel: KernelName | null
  threads: number
  precision: Precision
  headPrecision: Precision
  /** How keys and values are stored; f16 by default, which is all that a GPU has. */
  kvPrecision?: KvPrecision
  /** Tokens of the pages that the scheduler allocates. */
  kvTokens: number
  /** Tokens of the pages for callers that pass none. */
  ownTokens: number
}

/** The rows of logits of a step: for each work that samples one, and one more for each of its drafts. */
export interface StepLogits {
  /** Brings some from the device, where those of a work with candidates stay. */
  download: (rows: readonly number[]) => Promise<void>
  read: (row: number, into: Float32Array) => void
}

/** The addon's engine of one model. Steps of its weight sets run one at a time. */
export interface ModelEngine<E extends AddonEngine = AddonEngine> {
  /** The engine of the addon. */
  readonly native: E
  /**
   * Checks what a mask keeps and packs a weight set.
   *
   * @throws AppError `mask_invalid`, `node_failed`; the reason of `signal`, once the linears that are being packed are
   */
  load(
    model: DenseModel,
    maskPath: string | null,
    places: MaskPlaces,
    threads: number,
    stored?: Pick<WeightSource, 'form' | 'denseFrom'>,
    signal?: AbortSignal,
  ): Promise<EngineWeights>
  /** Runs something between two steps, which wait for it. */
  betweenSteps<T>(run: () => Promise<T>): Promise<T>
  /**
   * Runs a step, then `finish` before any other step, because logits are those of the last step. `results` are the
   * log-likelihoods, with their alternatives, the candidates and the hidden sums of all work, concatenated in order.
   *
   * @param requests for each work that samples from candidates what they need; none by default
   * @throws AppError `overloaded` when there are not enough pages for work without pages, `node_failed`, `internal_error`
   */
  step<T>(
    weights: EngineWeights,
    work: readonly SequenceWork[],
    drop: readonly number[],
    finish: (results: Float32Array, logits: StepLogits) => Promise<T>,
    requests?: readonly (CandidateRequest | undefined)[],
  ): Promise<T>
  /**
   * Runs a prompt on new weights, and again with its last token through the cache, beside the steps.
   *
   * @returns the logits of both, f32 `[2, vocab]`; undefined where the addon cannot do that
   */
  tryOut(weights: EngineWeights, prompt: Int32Array): Promise<Float32Array> | undefined
  /** Frees a weight set once its steps have ended. */
  release(weights: EngineWeights): Promise<void>
  /** Returns the held sequences, the written pages, and the pages allocated for callers without a scheduler. */
  usage(): { sequences: number; pages: number; ownPages: number }
  /** Ends its threads and frees the memory of keys and values, after the steps that were requested before. */
  close(): Promise<void>
  /** For tests. */
  provokePanic(): void
}

/**
 * Creates an engine without weights, by the native addon.
 *
 * @throws AppError `node_failed` when the addon rejects the model
 */
export function createModelEngine<E extends AddonEngine>(
  addon: EngineAddon<E>,
  config: LlamaConfig,
  options: ModelEngineOptions,
): ModelEngine<E> {
  return modelEngineOf(
    explained(() => new addon.Engine(addonOptions(config, options))),
    config,
    options,
  )
}

/**
 * Opens an engine without weights, by the GPU addon. The event loop goes on meanwhile.
 *
 * @throws AppError `node_failed` when the addon rejects the model, or the device does not open
 */
export async function openModelEngine<E extends AddonEngine>(
  open: (options: AddonEngineOptions) => Promise<E>,
  config: LlamaConfig,
  options: ModelEngineOptions,
): Promise<ModelEngine<E>> {
  const opening = explained(() => open(addonOptions(config, options)))
  return modelEngineOf(await explain(opening), config, options)
}

function addonOptions(
  config: LlamaConfig,
  { kvTokens, ownTokens, ...options }: ModelEngineOptions,
): AddonEngineOptions {
  const pages = pagesOf(kvTokens) + pagesOf(ownTokens)
  return { ...options, model: modelShape(config), pages, batchTokens: BATCH_TOKENS }
}

function pagesOf(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS)
}

function modelEngineOf<E extends AddonEngine>(
  engine: E,
  config: LlamaConfig,
  { kvTokens, ownTokens }: ModelEngineOptions,
): ModelEngine<E> {
  const ownPages = createOwnPages(pagesOf(kvTokens), pagesOf(ownTokens))
  let last: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
    const turn = last.then(run)
    last = turn.catch(() => undefined)
    return turn
  }

  return {
    native: engine,
    betweenSteps: inTurn,
    async load(model, maskPath, places, packThreads, stored = {}, signal) {
      const tensor = placeIn(model)
      const linearPlace = (name: string): LinearPlace => ({
        dense: tensor(name),
        mask: places.get(name) ?? null,
      })
      const source: WeightSource = {
        masterPath: model.master.path,
        maskPath,
        ...stored,
        embedding: tensor('model.embed_tokens.weight'),
        head: tensor(config.tiedEmbedding ? 'model.embed_tokens.weight' : 'lm_head.weight'),
        finalNorm: tensor('model.norm.weight'),
        blocks: Array.from({ length: config.layers }, (_, layer) => ({
          attentionNorm: tensor(`model.layers.${layer}.input_layernorm.weight`),
          mlpNorm: tensor(`model.layers.${layer}.post_attention_layernorm.weight`),
          linears: Object.fromEntries(
            BLOCK_LINEARS.map((linear) => [linear, linearPlace(linearName(layer, linear))]),
          ) as Record<LinearName, LinearPlace>,
        })),
        threads: packThreads,
      }
      const cancellation = engine.loadCancellation()
      const cancel = () => cancellation.cancel()
      signal?.addEventListener('abort', cancel, { once: true })
      try {
        return await explain(engine.load(source, cancellation))
      } catch (error) {
        signal?.throwIfAborted()
        throw error
      } finally {
        signal?.removeEventListener('abort', cancel)
      }
    },
    step: (weights, work, drop, finish, requests = []) =>
      inTurn(async () => {
        for (const sequence of drop) ownPages.release(weights, sequence)
        const pages = ownPages.allocate(weights, work)
        const results = await runStep(engine, weights, work, requests, pages, drop)
        return finish(results, {
          download: (rows) => explain(engine.downloadLogits?.(Int32Array.from(rows)) ?? Promise.resolve()),
          read: (row, into) => explained(() => engine.logits(row, into)),
        })
      }),
    tryOut(weights, prompt) {
      const trial = engine.tryOut?.(weights, prompt)
      return trial && explain(trial)
    },
    async release(weights) {
      // Only the request waits for its turn. Freeing hundreds of megabytes takes long, and no step has to wait for it.
      const { freed } = await inTurn(async () => {
        ownPages.release(weights)
        return { freed: explain(engine.release(weights)) }
      })
      await freed
    },
    usage() {
      const { sequences, writtenPages } = engine.usage()
      return { sequences, pages: writtenPages, ownPages: ownPages.usage().pages }
    },
    close: () => inTurn(() => explain(engine.close())),
    provokePanic: () => engine.provokePanic(),
  }
}

/** The addon's code for each result that a work may ask for. */
const OUTPUT_CODES = { none: 0, token: 1, nll: 2, hidden_sum: 3 } as const satisfies Record<
  SequenceWork['output'],
  StepOutput
>

/** The code for work that samples from candidates, with drafts or without. */
const CANDIDATES: StepOutput = 5

/** The code for work with drafts that samples from logits. */
const DRAFTED: StepOutput = 6

/** The codes for work that also scores tokens of a prompt. */
const SCORED_CODES: Record<SequenceWork['output'], StepOutput> = { ...OUTPUT_CODES, none: 2, token: 4 }

function runStep(
  engine: AddonEngine,
  weights: EngineWeights,
  work: readonly SequenceWork[],
  requests: readonly (CandidateRequest | undefined)[],
  pages: readonly (readonly number[])[],
  drop: readonly number[],
): Promise<Float32Array> {
  const total = work.reduce((sum, { tokens }) => sum + tokens.length, 0)
  const tokens = new Int32Array(total)
  const targets = new Int32Array(total).fill(-1)
  const sequences = new Float64Array(work.length)
  const positions = new Int32Array(work.length)
  const lengths = new Int32Array(work.length)
  const outputs = new Uint8Array(work.length)
  const alternatives = new Uint8Array(work.length)
  const cachedLengths = new Int32Array(work.length)
  const pageCounts = new Int32Array(work.length)
  let at = 0
  for (const [index, item] of work.entries()) {
    sequences[index] = item.sequence
    positions[index] = item.position
    lengths[index] = item.tokens.length
    const { promptScores } = item
    outputs[index] = promptScores ? SCORED_CODES[item.output] : OUTPUT_CODES[item.output]
    if (item.drafts) outputs[index] = DRAFTED
    if (requests[index]) outputs[index] = CANDIDATES
    alternatives[index] = promptScores?.alternatives ?? 0
    cachedLengths[index] = item.cached?.length ?? 0
    pageCounts[index] = pages[index]?.length ?? 0
    tokens.set(item.tokens, at)
    if (item.targets) targets.set(item.targets, at)
    if (promptScores) targets.set(promptScores.targets, at)
    at += item.tokens.length
  }
  return explain(
    engine.step(weights, {
      sequences,
      positions,
      lengths,
      outputs,
      alternatives,
      temperatures: Float32Array.from(work, (_, index) => requests[index]?.temperature ?? 0),
      chances: Float32Array.from(requests.flatMap((request) => request?.chances ?? [])),
      adjustments: joinAdjustments(requests),
      drafts: Uint8Array.from(work, ({ drafts = 0 }) => drafts),
      cachedLengths,
      pageCounts,
      tokens,
      targets,
      pages: Int32Array.from(pages.flat()),
      drops: Float64Array.from(drop),
    }),
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

/** Runs a synchronous call of the addon. @throws AppError that translates the error of the addon */
export function explained<T>(action: () => T): T {
  try {
    return action()
  } catch (thrown) {
    throw asAppError(thrown)
  }
}

/** Returns whether an error says that the engine's device is lost, so that the engine cannot be used again. */
export function isDeviceLost({ cause }: AppError): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'DeviceLost'
}

/** Translates an error of the addon. */
function asAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown
  const code = addonErrorCode(thrown)
  const text = String((thrown as { message?: unknown }).message ?? thrown)
  if (code === 'InvalidMask') return maskInvalid(text, thrown)
  // The addon cannot name the settings of the node.
  const remedy = code === 'InvalidPageCount' ? ' COPAL_KV_TOKENS says how many.' : ''
  const sentence = `${text.charAt(0).toUpperCase()}${text.slice(1)}.${remedy}`
  return new AppError(errorCodeOf(code), sentence, { cause: thrown })
}

function errorCodeOf(code: AddonErrorCode | undefined): ErrorCode {
  // A mistake of this node's engine.
  if (code === 'InvalidStep') return 'internal_error'
  if (code === 'InvalidLogits') return 'invalid_output'
  // It may not occur on another node.
  return 'node_failed'
}
