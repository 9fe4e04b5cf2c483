import { AppError } from '@copal/shared/errors.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { TextWindows } from './text-windows.ts'

/** Tokens of one step: cancelling waits for no more. */
const STEP_TOKENS = 512

/** Text to score: up to {@link STEP_TOKENS} tokens of one window, and the token that follows each of them. */
interface ScoringWork {
  sequence: number
  tokens: Int32Array
  position: number
  output: 'nll'
  targets: Int32Array
}

/** Runs the weights that are evaluated: the part of a serving backend that evaluation uses. */
export interface ScoringBackend<Weights> {
  load(source: EvaluatedWeights & { priority: 'background' }): Promise<Weights>
  /** Scores the work of one step, after it has freed the sequences of `drop`. */
  step(plan: {
    weights: Weights
    work: readonly ScoringWork[]
    drop: readonly number[]
  }): Promise<{ outputs: readonly ({ kind: 'nll'; nll: Float32Array } | { kind: string })[] }>
  release(weights: Weights): Promise<void>
}

/** The weights that are evaluated: a model under a mask, or dense (version 0, no path). */
export interface EvaluatedWeights {
  model: DenseModel
  version: number
  maskPath: string | null
}

/** How the scoring of windows is watched and ended. */
export interface ScoringOptions {
  onProgress?: ((windowsDone: number, windowsTotal: number) => void) | undefined
  signal?: AbortSignal | undefined
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
 * Perplexity of windows that are cut already, source by source, each given out as soon as it is known; the
 * weights are loaded for this and released after, also when the iteration is left.
 *
 * @throws AppError as `Backend.load` does; the reason of `signal`
 */
export async function* evaluateWindows<Weights>(
  backend: ScoringBackend<Weights>,
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

/** Scores one window after another: the sum of the negative log-likelihoods of its tokens 2…T, in nats. */
function createScorer<Weights>(
  backend: ScoringBackend<Weights>,
  weights: Weights,
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
      const work: ScoringWork = { sequence, tokens, position, output: 'nll', targets }
      const { outputs } = await backend.step({ weights, work: [work], drop: position === 0 ? drop : [] })
      const [output] = outputs
      if (!output || !('nll' in output)) throw new RangeError('the backend did not score the window')
      for (const nll of output.nll) sum += nll
    }
    return sum
  }
}
