import { AppError } from '@copal/shared/errors.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { TextWindows } from './text-windows.ts'

/** Maximum tokens per step. */
const STEP_TOKENS = 512

/** Tokens to score: up to {@link STEP_TOKENS} of one window, and as `targets` the token that follows each of them. */
interface ScoringWork {
  sequence: number
  tokens: Int32Array
  position: number
  output: 'nll'
  targets: Int32Array
}

/** The part of a serving backend that evaluation uses. */
export interface ScoringBackend<Weights> {
  /** Loads the weights; aborting the signal ends them, also while they load or run a step. */
  load(
    source: EvaluatedWeights & { priority: 'background'; signal?: AbortSignal | undefined },
  ): Promise<Weights>
  /** Frees the sequences of `drop`, then scores the work of one step. */
  step(plan: {
    weights: Weights
    work: readonly ScoringWork[]
    drop: readonly number[]
  }): Promise<{ outputs: readonly ({ kind: 'nll'; nll: Float32Array } | { kind: string })[] }>
  release(weights: Weights): Promise<void>
}

/** The weights to evaluate: a model with a mask, or dense (version 0, null path). */
export interface EvaluatedWeights {
  model: DenseModel
  version: number
  maskPath: string | null
}

/** Callbacks and cancellation of an evaluation. */
export interface ScoringOptions {
  onProgress?: ((windowsDone: number, windowsTotal: number) => void) | undefined
  /** Called after each step; the work goes on when it has settled. */
  pause?: ((signal?: AbortSignal) => Promise<void>) | undefined
  signal?: AbortSignal | undefined
}

/** The result for one source. */
export interface Evaluation {
  windows: number
  /** Scored tokens: all tokens of each window except the first. */
  tokens: number
  /** Negative log-likelihood in nats, mean over scored tokens. */
  nllMean: number
  /** `exp(nllMean)` */
  perplexity: number
  /** Mean negative log-likelihood of each window in nats, in order. */
  windowNll: number[]
  /** Scored tokens of each window. */
  windowTokens: number[]
}

/**
 * Computes the perplexity of windows, and yields the result of each source as soon as it is complete. The weights are
 * loaded at the start and released at the end, also when the caller leaves the iteration early.
 *
 * @throws AppError as `Backend.load` does; the reason of `signal`
 */
export async function* evaluateWindows<Weights>(
  backend: ScoringBackend<Weights>,
  { model, version, maskPath }: EvaluatedWeights,
  sources: readonly TextWindows[],
  options: ScoringOptions = {},
): AsyncGenerator<Evaluation> {
  options.signal?.throwIfAborted()
  const weights = await backend.load({ model, version, maskPath, priority: 'background' })
  try {
    yield* scoreWindows(backend, weights, sources, options)
  } finally {
    await backend.release(weights)
  }
}

/** Computes the perplexity of windows as {@link evaluateWindows} does, with loaded weights. */
export async function* scoreWindows<Weights>(
  backend: Pick<ScoringBackend<Weights>, 'step'>,
  weights: Weights,
  sources: readonly TextWindows[],
  { onProgress, pause, signal }: ScoringOptions,
): AsyncGenerator<Evaluation> {
  const total = sources.reduce((sum, { windows }) => sum + windows.length, 0)
  onProgress?.(0, total)
  const score = createScorer(backend, weights, { pause, signal })
  let done = 0
  for (const { windows } of sources) {
    const windowNll: number[] = []
    const windowTokens: number[] = []
    let sum = 0
    let tokens = 0
    for (const window of windows) {
      const nll = await score(window)
      sum += nll
      tokens += window.length - 1
      windowNll.push(nll / (window.length - 1))
      windowTokens.push(window.length - 1)
      onProgress?.(++done, total)
    }
    const nllMean = sum / tokens
    const perplexity = Math.exp(nllMean)
    yield { windows: windows.length, tokens, nllMean, perplexity, windowNll, windowTokens }
  }
}

/**
 * Checks that a window fits the model's context.
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

/** Creates a function that returns the sum of the negative log-likelihoods of a window's tokens 2…T, in nats. */
function createScorer<Weights>(
  backend: Pick<ScoringBackend<Weights>, 'step'>,
  weights: Weights,
  { pause, signal }: Pick<ScoringOptions, 'pause' | 'signal'>,
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
      const work: ScoringWork = { sequence, tokens, position, output: 'nll', targets }
      const { outputs } = await backend.step({ weights, work: [work], drop: position === 0 ? drop : [] })
      const [output] = outputs
      if (!output || !('nll' in output)) throw new RangeError('the backend did not score the window')
      for (const nll of output.nll) sum += nll
      await pause?.(signal)
    }
    return sum
  }
}
