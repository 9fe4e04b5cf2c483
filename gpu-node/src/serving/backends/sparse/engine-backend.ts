import { AppError, toAppError } from '@copal/shared/errors.ts'
import type { EngineWeights } from '../../../../native/addon.d.ts'
import type { Log } from '../../../platform/log.ts'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import type { DenseModel } from '../../../model/master/dense-model.ts'
import type { Backend, SequenceWork, StepResult, WeightSet, WeightSetSource } from '../../contract/backend.ts'
import { selfTestPrompt, checkSelfTest } from '../../contract/self-test.ts'
import type { CandidateRequest } from '../../sampling/candidates.ts'
import type { LogitKernels } from '../../sampling/logit-kernels.ts'
import type { Sampler } from '../../sampling/token-sampler.ts'
import {
  createSamplers,
  requireDistinct,
  requireTargets,
  type Samplers,
} from '../../sampling/sequence-samplers.ts'
import type { FormChoice } from './form-choice.ts'
import { placesInMask, type MaskPlaces } from './mask-locations.ts'
import { isDeviceLost, type ModelEngine, type StepLogits } from './model-engine.ts'
import { readStepOutputs } from './step-outputs.ts'

/** The parts in which backends of packed weights differ. */
export interface EngineBackendOptions {
  name: string
  bytesPerWeight: number
  /** Creates the engine of a model. */
  createEngine: (model: DenseModel) => ModelEngine | Promise<ModelEngine>
  /** Chooses the form of a set's pruned weights; without it they are packed. */
  chooseForm?: (source: WeightSetSource, engine: ModelEngine, places: MaskPlaces) => Promise<FormChoice>
  /** Names the numerics of a set, whose pruned weights have a form. */
  numerics: (form: FormChoice['form'] | undefined) => string
  /** Creates the loops over the logits of a weight set. */
  createLogitKernels: (vocabSize: number) => LogitKernels
  /** Called when an engine has lost its device. */
  onDeviceLost?: () => void
  /** Threads that pack the first set. While a set serves, half of them pack. */
  packThreads: number
  log?: Pick<Log, 'info' | 'warn'> | undefined
}

/** A {@link Backend} that reports what it holds. */
export interface EngineBackend extends Backend {
  /**
   * Returns totals over all weight sets: held sequences, written key/value pages, and pages allocated for work without
   * pages. Must not be called during a step.
   */
  usage(): { sequences: number; pages: number; ownPages: number }
  /** Makes the next step panic inside the addon; for tests. */
  provokePanic(): void
}

/** An engine, and the number of weight sets that are loaded or load. The last one to leave closes it. */
interface SharedEngine {
  opening: Promise<ModelEngine>
  /** Absent until it is open. */
  engine?: ModelEngine
  uses: number
}

interface LoadedSet {
  engine: ModelEngine
  handle: EngineWeights
  /** Frees the weights, and closes the engine if no other set uses it. */
  free: () => Promise<void>
  config: LlamaConfig
  samplers: Samplers
  logits: Float32Array
  end: (cause: Error | undefined) => void
}

const NO_MASK: MaskPlaces = new Map()
/** Largest allowed difference of cached and uncached logits, relative to the largest: activations are rounded. */
const SELF_TEST_TOLERANCE = 2e-2

/**
 * Creates a backend that runs weight sets in this process with an engine of an addon: steps on the addon's threads or
 * device, sampling on the event loop.
 *
 * Sets of one model share an engine with its key/value pages, and all weights that a mask does not change. Steps of
 * different sets run one at a time. The last set to be released closes the engine. When an engine has lost its device, its sets
 * end, and the next load gets a new engine.
 */
export function createEngineBackend(options: EngineBackendOptions): EngineBackend {
  const { packThreads, log } = options
  const engines = new Map<string, SharedEngine>()
  const sets = new Map<WeightSet, LoadedSet>()

  /** Returns the engine of a model for one more weight set. */
  const enter = async (model: DenseModel): Promise<{ engine: ModelEngine; leave: () => Promise<void> }> => {
    const { path } = model.master
    let shared = engines.get(path)
    if (!shared) engines.set(path, (shared = { opening: openEngine(model), uses: 0 }))
    const entered = shared
    entered.uses += 1
    try {
      const engine = (entered.engine = await entered.opening)
      return { engine, leave: () => leaveEngine(path, entered) }
    } catch (error) {
      // The next load tries again.
      if (engines.get(path) === entered) engines.delete(path)
      throw error
    }
  }

  async function openEngine(model: DenseModel): Promise<ModelEngine> {
    return options.createEngine(model)
  }

  async function leaveEngine(path: string, shared: SharedEngine): Promise<void> {
    shared.uses -= 1
    if (shared.uses > 0) return
    if (engines.get(path) === shared) engines.delete(path)
    await shared.engine?.close()
  }

  /** Runs an action of an engine. If its device is lost, no set can run on it any more. */
  async function onEngine<T>(engine: ModelEngine, action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      if (error instanceof AppError && isDeviceLost(error)) abandon(engine, error)
      throw error
    }
  }

  function abandon(engine: ModelEngine, cause: AppError): void {
    for (const [path, known] of engines) {
      if (known.engine !== engine) continue
      engines.delete(path)
      options.onDeviceLost?.()
    }
    for (const [weights, loaded] of sets) {
      if (loaded.engine !== engine) continue
      sets.delete(weights)
      // Frees what is on the processor. A lost device has freed its own memory.
      void loaded.free().catch(() => undefined)
      loaded.end(cause)
    }
  }

  /** Packs the weights of a set, in the form that is chosen for it. */
  async function pack(
    engine: ModelEngine,
    source: WeightSetSource,
    places: MaskPlaces,
  ): Promise<{ handle: EngineWeights; choice: FormChoice | undefined }> {
    const { model, maskPath, signal } = source
    signal?.throwIfAborted()
    const choice = places.size > 0 ? await options.chooseForm?.(source, engine, places) : undefined
    signal?.throwIfAborted()
    // Packing leaves half of the processors to sets that already serve.
    const threads = sets.size === 0 ? packThreads : Math.max(1, packThreads >> 1)
    const stored = choice && { form: choice.form, denseFrom: choice.denseFrom }
    const load = () => engine.load(model, maskPath, places, threads, stored, signal)
    return { handle: await onEngine(engine, load), choice }
  }

  /** Returns whether a set takes drafts, see {@link runSelfTest}. */
  async function tryOut(loaded: LoadedSet, signal: AbortSignal | undefined): Promise<boolean> {
    signal?.throwIfAborted()
    return onEngine(loaded.engine, () => runSelfTest(loaded))
  }

  return {
    name: options.name,
    bytesPerWeight: options.bytesPerWeight,

    async load(source) {
      const { model, maskPath, version, priority, signal } = source
      const startedMs = performance.now()
      const { vocabSize } = model.config
      const places = maskPath === null ? NO_MASK : await placesInMask(maskPath, model.config, model.master)
      const samplers = createSamplers(options.createLogitKernels(vocabSize))
      const { engine, leave } = await enter(model)
      const { handle, choice } = await orFree(pack(engine, source, places), leave)
      const { promise: ended, resolve } = Promise.withResolvers<Error | undefined>()
      const loaded: LoadedSet = {
        engine,
        handle,
        async free() {
          try {
            await engine.release(handle)
          } finally {
            await leave()
          }
        },
        config: model.config,
        samplers,
        logits: new Float32Array(vocabSize),
        end: resolve,
      }
      const takesDrafts = await orFree(tryOut(loaded, signal), loaded.free)
      const weights: WeightSet = {
        version,
        source,
        paged: true,
        takesDrafts,
        bytes: handle.memoryBytes,
        ...(choice ? { form: { name: choice.form, why: choice.why } } : {}),
        numerics: options.numerics(places.size > 0 ? (choice?.form ?? 'packed') : undefined),
        ended,
      }
      sets.set(weights, loaded)
      if (!takesDrafts)
        log?.warn(
          'this device computes a token differently if others are computed with it. So the set takes no drafts, which could ' +
            'change tokens, and texts may differ slightly with the load',
          { version },
        )
      log?.info('weight set loaded', {
        version,
        priority,
        kernel: engine.native.kernel,
        megabytes: Math.round(handle.bytes / 1e6),
        ...(choice ? { form: choice.form, why: choice.why } : {}),
        ms: Math.round(performance.now() - startedMs),
      })
      return weights
    },

    async step({ weights, work, drop }) {
      const loaded = sets.get(weights)
      if (!loaded)
        throw new AppError('node_failed', `The weight set of version ${weights.version} is not loaded.`)
      const { engine, handle } = loaded
      for (const sequence of drop) loaded.samplers.drop(sequence)
      const samplers = accept(loaded, work)
      const requests = work.map((item, index) => candidateRequestOf(engine, item, samplers[index]))
      const finish = async (results: Float32Array, logits: StepLogits): Promise<StepResult> => ({
        outputs: await readStepOutputs(work, {
          config: loaded.config,
          samplers,
          results,
          candidates: engine.native.candidates ?? 0,
          requests,
          logits,
          row: loaded.logits,
        }),
      })
      return onEngine(engine, () => engine.step(handle, work, drop, finish, requests))
    },

    async release(weights) {
      const loaded = sets.get(weights)
      if (!loaded) return void (await weights.ended)
      sets.delete(weights)
      try {
        await loaded.free()
        loaded.end(undefined)
      } catch (cause) {
        loaded.end(toAppError(cause))
        throw cause
      }
    },

    usage() {
      const all = [...engines.values()].flatMap(({ engine }) => engine?.usage() ?? [])
      const total = (of: (usage: ReturnType<ModelEngine['usage']>) => number) =>
        all.reduce((sum, usage) => sum + of(usage), 0)
      return {
        sequences: total(({ sequences }) => sequences),
        pages: total(({ pages }) => pages),
        ownPages: total(({ ownPages }) => ownPages),
      }
    },
    provokePanic: () => engines.forEach(({ engine }) => engine?.provokePanic()),
  }
}

/** Returns the result of a part of a load. If it fails, `free` frees what was taken before it. */
async function orFree<T>(part: Promise<T>, free: () => Promise<void>): Promise<T> {
  try {
    return await part
  } catch (thrown) {
    await free().catch(() => undefined)
    throw thrown
  }
}

/** Checks work against what the addon does not know, and passes its tokens to the samplers. */
function accept(
  { config, samplers }: LoadedSet,
  work: readonly SequenceWork[],
): readonly (Sampler | undefined)[] {
  requireDistinct(work)
  return work.map((item) => {
    const { tokens, position } = item
    requireTargets(item)
    if (position + tokens.length > config.contextLength) {
      throw new AppError(
        'context_length_exceeded',
        `The sequence has ${position + tokens.length} tokens, but the model takes ${config.contextLength}.`,
      )
    }
    return samplers.accept(item)
  })
}

/**
 * Returns what the tokens of a work need to be sampled from candidates; undefined if they need the logits, or the engine
 * has no candidates.
 */
function candidateRequestOf(
  { native }: ModelEngine,
  { output, drafts = 0, promptScores, position, tokens }: SequenceWork,
  sampler: Sampler | undefined,
): CandidateRequest | undefined {
  if (native.candidates === undefined || output !== 'token' || promptScores) return undefined
  const limits = { count: native.candidates, maxAdjusted: native.maxAdjusted ?? 0 }
  const own = tokens.length - drafts
  return sampler?.candidateRequest(limits, position + own, tokens.subarray(own))
}

/**
 * Runs a fixed prompt at once, and again with its last token through the cache.
 *
 * @returns whether drafts change no token. On a GPU, whose driver may compile kernels with fast math, both runs must have the same
 * logits.
 * @throws AppError `node_failed` unless the logits are finite and agree
 */
async function runSelfTest({ engine, handle, config: { vocabSize } }: LoadedSet): Promise<boolean> {
  const prompt = selfTestPrompt(vocabSize)
  const tried = await engine.tryOut(handle, prompt)
  const logits = tried ?? (await tryInSteps(engine, handle, prompt, vocabSize))
  const [whole, cached] = [logits.subarray(0, vocabSize), logits.subarray(vocabSize)]
  const difference = checkSelfTest(whole, cached, SELF_TEST_TOLERANCE)
  return tried !== undefined || difference === 0
}

/** Each step has few tokens, because streams of the serving sets wait for it, and run a step of their own before the next one. */
async function tryInSteps(
  engine: ModelEngine,
  handle: EngineWeights,
  prompt: Int32Array,
  vocabSize: number,
): Promise<Float32Array> {
  const last = prompt.length - 1
  const logits = new Float32Array(2 * vocabSize)
  const run = (work: SequenceWork, into?: Float32Array) =>
    engine.step(handle, [work], [], async (_, { read }) => into && read(0, into))
  const whole: SequenceWork = { sequence: 0, tokens: prompt, position: 0, output: 'token' }
  await run(whole, logits.subarray(0, vocabSize))
  await run({ sequence: 1, tokens: prompt.subarray(0, last), position: 0, output: 'none' })
  const cached: SequenceWork = {
    sequence: 1,
    tokens: prompt.subarray(last),
    position: last,
    output: 'token',
  }
  await run(cached, logits.subarray(vocabSize))
  await engine.step(handle, [], [0, 1], async () => undefined)
  return logits
}
