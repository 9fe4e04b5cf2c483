import { AppError } from '@copal/shared/errors.ts'
import type { Backend, SequenceWork, WeightSet } from '../../serving/contract/backend.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { ModelReference } from '../runs/pruning-child-protocol.ts'
import { runInChild } from '../runs/run-in-child.ts'
import type { TextSource, TextWindows } from './text-windows.ts'

/** Tokens of one step: cancelling waits for no more. */
const STEP_TOKENS = 512

/** The weights that are evaluated: a model under a mask, or dense (version 0, no path). */
export interface EvaluatedWeights {
  model: DenseModel
  version: number
  maskPath: string | null
}

/** {@link EvaluatedWeights}, and how the child that cuts texts into windows opens the same model. */
export interface EvaluationTarget extends EvaluatedWeights {
  reference: ModelReference
}

/** How the scoring of windows is watched and ended. */
export interface ScoringOptions {
  onProgress?: ((windowsDone: number, windowsTotal: number) => void) | undefined
  signal?: AbortSignal | undefined
}

export interface EvaluationOptions extends ScoringOptions {
  windowTokens: number
  /** Of each source. */
  maxWindows?: number | undefined
}

/** Perplexity of one source. */
export interface Evaluation {
  windows: number
  /** Scored tokens: all of each window but its first. */
  tokens: number
  /** Negative log-likelihood in nats, mean over scored tokens. */
  nllMean: number
  /** `exp(nllMean)` */
  perplexity: number
  /** Mean over the scored tokens of each window, in order. */
  windowNll: number[]
}

/**
 * Perplexity of each source under one set of weights, loaded for this and released after, at the priority of
 * background work. Texts are cut as `cutWindows` says, in a child process.
 *
 * @throws AppError as `Backend.load` and `cutWindows` do, or `context_length_exceeded`; the reason of `signal`
 */
export async function evaluate(
  backend: Backend,
  target: EvaluationTarget,
  sources: TextSource[],
  options: EvaluationOptions,
): Promise<Evaluation[]> {
  const { windowTokens, maxWindows, signal } = options
  requireContext(target.model, windowTokens)
  const texts = await windowsInChild(
    target.reference,
    sources,
    windowTokens,
    maxWindows ?? Number.MAX_SAFE_INTEGER,
    signal,
  )
  const evaluations: Evaluation[] = []
  for await (const evaluation of evaluateWindows(backend, target, texts, options)) {
    evaluations.push(evaluation)
  }
  return evaluations
}

/**
 * Perplexity of windows that are cut already, source by source, each given out as soon as it is known; the
 * weights are loaded for this and released after, also when the iteration is left.
 *
 * @throws AppError as `Backend.load` does; the reason of `signal`
 */
export async function* evaluateWindows(
  backend: Backend,
  { model, version, maskPath }: EvaluatedWeights,
  sources: readonly TextWindows[],
  { onProgress, signal }: ScoringOptions = {},
): AsyncGenerator<Evaluation> {
  const total = sources.reduce((sum, { windows }) => sum + windows.length, 0)
  onProgress?.(0, total)
  signal?.throwIfAborted()
  const weights = await backend.load({ model, version, maskPath, priority: 'background' })
  try {
    const score = createScorer(backend, weights, signal)
    let done = 0
    for (const { windows } of sources) {
      const windowNll: number[] = []
      let sum = 0
      let tokens = 0
      for (const window of windows) {
        const nll = await score(window)
        sum += nll
        tokens += window.length - 1
        windowNll.push(nll / (window.length - 1))
        onProgress?.(++done, total)
      }
      const nllMean = sum / tokens
      yield { windows: windows.length, tokens, nllMean, perplexity: Math.exp(nllMean), windowNll }
    }
  } finally {
    await backend.release(weights)
  }
}

/**
 * Refuses windows that the model cannot read at once.
 *
 * @throws AppError `context_length_exceeded`
 */
export function requireContext({ config }: DenseModel, windowTokens: number): void {
  if (windowTokens <= config.contextLength) return
  throw new AppError(
    'context_length_exceeded',
    `Windows of ${windowTokens} tokens do not fit the model's context of ${config.contextLength}.`,
    { param: 'windowTokens' },
  )
}

async function windowsInChild(
  model: ModelReference,
  sources: TextSource[],
  windowTokens: number,
  maxWindows: number,
  signal: AbortSignal | undefined,
): Promise<TextWindows[]> {
  const result = await runInChild({ kind: 'windows', model, sources, windowTokens, maxWindows }, { signal })
  if (result.type !== 'windows') throw new RangeError(`the child answered ${result.type}`)
  return result.windows
}

/** Scores one window after another: the sum of the negative log-likelihoods of its tokens 2…T, in nats. */
function createScorer(
  backend: Backend,
  weights: WeightSet,
  signal: AbortSignal | undefined,
): (window: Int32Array) => Promise<number> {
  let sequence = 0
  return async (window) => {
    const drop = sequence > 0 ? [sequence] : []
    sequence++
    let sum = 0
    // The last token is only a target.
    const inputs = window.subarray(0, -1)
    for (let position = 0; position < inputs.length; position += STEP_TOKENS) {
      signal?.throwIfAborted()
      const tokens = inputs.slice(position, position + STEP_TOKENS)
      const targets = window.slice(position + 1, position + 1 + tokens.length)
      const work: SequenceWork = { sequence, tokens, position, output: 'nll', targets }
      const { outputs } = await backend.step({ weights, work: [work], drop: position === 0 ? drop : [] })
      const [output] = outputs
      if (output?.kind !== 'nll') throw new RangeError('the backend did not score the window')
      for (const nll of output.nll) sum += nll
    }
    return sum
  }
}
