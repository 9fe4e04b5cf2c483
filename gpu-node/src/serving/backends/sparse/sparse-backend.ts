import { availableParallelism } from 'node:os'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { AppError } from '@copal/shared/errors.ts'
import type { Addon, EngineWeights, KernelName, Precision } from '../../../../native/addon.d.ts'
import type { Sampler } from '../../sampling/token-sampler.ts'
import type { Log } from '../../../platform/log.ts'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import {
  MAX_THREADS,
  PAGE_TOKENS,
  type Backend,
  type SequenceOutput,
  type SequenceWork,
  type WeightSet,
} from '../../contract/backend.ts'
import { selfTestPrompt, checkSelfTest } from '../../contract/self-test.ts'
import { createSamplers, misfit, requireDistinct, type Samplers } from '../../sampling/sequence-samplers.ts'
import { placesInMask, type MaskPlaces } from './mask-locations.ts'
import { createModelEngine, type ModelEngine } from './model-engine.ts'
import { createNativeLoops } from './native-logit-kernels.ts'

/** How the sparse engine is to run. */
export interface SparseBackendOptions {
  addon: Addon
  /** Threads of a step, at most {@link MAX_THREADS}; every processor by default. */
  threads?: number | undefined
  /** The machine's best by default. */
  kernel?: KernelName | undefined
  /** Of the linears; bf16 by default. */
  precision?: Precision | undefined
  /** Of the head; int8 by default: nothing prunes it, and in bf16 it is a third of what a half-pruned model reads. */
  headPrecision?: Precision | undefined
  /** Tokens of keys and values that the scheduler gives out; four contexts by default, as its own default. */
  kvTokens?: number | undefined
  /** Tokens of callers that give no pages, which are benchmarks; none by default. Trials of new sets have theirs. */
  ownTokens?: number | undefined
  log?: Pick<Log, 'info'> | undefined
}

/** A {@link Backend} that tells what it holds. */
export interface SparseBackend extends Backend {
  /**
   * Over all weight sets: sequences that are held, pages of keys and values that were written, and those that works
   * without pages were given. Not during a step.
   */
  usage(): { sequences: number; pages: number; ownPages: number }
  /** For tests: the next step panics inside of the addon. */
  provokePanic(): void
}

interface LoadedSet {
  engine: ModelEngine
  handle: EngineWeights
  config: LlamaConfig
  samplers: Samplers
  logits: Float32Array
  end: () => void
}

const USUAL_HEAD: Precision = 'int8'
const NO_MASK: MaskPlaces = new Map()
/** A new set is tried with two sequences that are shorter than a page; eight are never loaded at once. */
const TRIAL_TOKENS = 8 * 2 * PAGE_TOKENS
/** How far cached and uncached logits may differ, relative to the largest: a rounded activation may differ. */
const CANARY_TOLERANCE = 2e-2
/** Sampling runs on the event loop, this long at most before it lets others run. */
const SAMPLING_TURN_MS = 2

/**
 * Runs weight sets in this process with the Rust addon: steps on its own threads, sampling here.
 *
 * Sets of one model share an engine, its threads and its key/value pages, and every weight that a mask does
 * not change. Steps of different sets take turns.
 *
 * @throws AppError `invalid_request` for a kernel that this machine cannot run
 */
export function createSparseBackend(options: SparseBackendOptions): SparseBackend {
  const { addon, kernel, log } = options
  const threads = Math.min(options.threads ?? availableParallelism(), MAX_THREADS)
  const precision = options.precision ?? 'bf16'
  const headPrecision = options.headPrecision ?? USUAL_HEAD
  const known = addon.kernels()
  if (kernel && !known.includes(kernel)) {
    throw new AppError(
      'invalid_request',
      `This machine cannot run the kernel '${kernel}'; it runs ${known.join(', ')}. Set COPAL_KERNEL to one of them or leave it out.`,
      { param: 'kernel' },
    )
  }
  const ofHead = headPrecision === USUAL_HEAD ? [] : [`head-${headPrecision}`]
  const engines = new Map<string, ModelEngine>()
  const sets = new Map<WeightSet, LoadedSet>()

  const engineOf = ({ config, master }: DenseModel): ModelEngine => {
    let engine = engines.get(master.path)
    if (!engine) {
      engine = createModelEngine(addon, config, {
        kernel: kernel ?? null,
        threads,
        precision,
        headPrecision,
        kvTokens: options.kvTokens ?? 4 * config.contextLength,
        ownTokens: TRIAL_TOKENS + (options.ownTokens ?? 0),
      })
      engines.set(master.path, engine)
    }
    return engine
  }

  return {
    name: ['sparse', precision, ...ofHead, kernel ?? known[0]].join('-'),

    async load(source) {
      const { model, maskPath, version } = source
      const startedMs = performance.now()
      const places = maskPath === null ? NO_MASK : await placesInMask(maskPath, model.config, model.master)
      const engine = engineOf(model)
      // Beside sets that serve, packing leaves half of the machine to them.
      const packThreads = sets.size === 0 ? threads : Math.max(1, threads >> 1)
      const handle = await engine.load(model, maskPath, places, packThreads)
      const { promise: ended, resolve } = Promise.withResolvers<Error | undefined>()
      const loaded: LoadedSet = {
        engine,
        handle,
        config: model.config,
        samplers: createSamplers(createNativeLoops(addon, model.config.vocabSize, kernel)),
        logits: new Float32Array(model.config.vocabSize),
        end: () => resolve(undefined),
      }
      try {
        await tryModel(loaded)
      } catch (thrown) {
        await engine.release(handle)
        throw thrown
      }
      const weights: WeightSet = { version, source, paged: true, ended }
      sets.set(weights, loaded)
      log?.info('weight set loaded', {
        version,
        priority: source.priority,
        kernel: engine.kernel,
        megabytes: Math.round(handle.bytes / 1e6),
        ms: Math.round(performance.now() - startedMs),
      })
      return weights
    },

    async step({ weights, work, drop }) {
      const loaded = sets.get(weights)
      if (!loaded)
        throw new AppError('node_failed', `The weight set of version ${weights.version} is not loaded.`)
      for (const sequence of drop) loaded.samplers.drop(sequence)
      const samplers = accept(loaded, work)
      return loaded.engine.step(loaded.handle, work, drop, async (results, logits) => ({
        outputs: await outputsOf(work, loaded.config, samplers, results, (index) => {
          logits(index, loaded.logits)
          return loaded.logits
        }),
      }))
    },

    async release(weights) {
      const loaded = sets.get(weights)
      if (!loaded) return void (await weights.ended)
      sets.delete(weights)
      await loaded.engine.release(loaded.handle)
      loaded.end()
    },

    usage() {
      const all = [...engines.values()].map((engine) => engine.usage())
      const total = (of: (usage: ReturnType<ModelEngine['usage']>) => number) =>
        all.reduce((sum, usage) => sum + of(usage), 0)
      return {
        sequences: total(({ sequences }) => sequences),
        pages: total(({ pages }) => pages),
        ownPages: total(({ ownPages }) => ownPages),
      }
    },
    provokePanic: () => engines.forEach((engine) => engine.provokePanic()),
  }
}

/** Checks what the addon does not know of, and tells the samplers of the tokens. */
function accept(
  { config, samplers }: LoadedSet,
  work: readonly SequenceWork[],
): readonly (Sampler | undefined)[] {
  requireDistinct(work)
  return work.map((item) => {
    const { tokens, position, targets, output } = item
    if (output === 'nll' && targets?.length !== tokens.length)
      throw misfit(item, `it has ${targets?.length ?? 0} targets for ${tokens.length} tokens`)
    if (position + tokens.length > config.contextLength) {
      throw new AppError(
        'context_length_exceeded',
        `The sequence has ${position + tokens.length} tokens, the model takes ${config.contextLength}.`,
      )
    }
    return samplers.accept(item)
  })
}

async function outputsOf(
  work: readonly SequenceWork[],
  { hiddenSize }: LlamaConfig,
  samplers: readonly (Sampler | undefined)[],
  results: Float32Array,
  logitsOf: (index: number) => Float32Array,
): Promise<SequenceOutput[]> {
  const outputs: SequenceOutput[] = []
  let read = 0
  let sampled = 0
  let turnMs = performance.now()
  for (const [index, { output, targets, position, tokens, allowed }] of work.entries()) {
    const sampler = samplers[index]
    if (output === 'nll') {
      const count = targets?.reduce((sum, target) => sum + (target === -1 ? 0 : 1), 0) ?? 0
      outputs.push({ kind: 'nll', nll: results.slice(read, (read += count)) })
    } else if (output === 'hidden_sum') {
      outputs.push({ kind: 'hidden_sum', sum: results.slice(read, (read += hiddenSize)) })
    } else if (output === 'token' && sampler) {
      const mask = (await allowed) ?? null
      if (performance.now() - turnMs > SAMPLING_TURN_MS) {
        await nextTurn()
        turnMs = performance.now()
      }
      outputs.push({ kind: 'token', ...sampler.sample(logitsOf(sampled++), position + tokens.length, mask) })
    } else outputs.push({ kind: 'none' })
  }
  return outputs
}

/**
 * Runs a fixed prompt at once, and again with its last token through the cache, in two steps: streams of the sets that
 * serve wait for them.
 *
 * @throws AppError `node_failed` unless logits are finite and agree
 */
async function tryModel({ engine, handle, config }: LoadedSet): Promise<void> {
  const prompt = selfTestPrompt(config.vocabSize)
  const last = prompt.length - 1
  const logitsAfter = (...work: SequenceWork[]) =>
    engine.step(handle, work, [], async (_, read) => {
      const logits = new Float32Array(config.vocabSize)
      read(0, logits)
      return logits
    })
  const whole = await logitsAfter(
    { sequence: 0, tokens: prompt, position: 0, output: 'token' },
    { sequence: 1, tokens: prompt.subarray(0, last), position: 0, output: 'none' },
  )
  const cached = await logitsAfter({
    sequence: 1,
    tokens: prompt.subarray(last),
    position: last,
    output: 'token',
  })
  checkSelfTest(whole, cached, CANARY_TOLERANCE)
  await engine.step(handle, [], [0, 1], async () => undefined)
}
