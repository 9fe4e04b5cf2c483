import {
  evaluateWindows,
  requireContext,
  type EvaluatedWeights,
  type Evaluation,
  type ScoringBackend,
  type ScoringOptions,
} from '../evaluation/evaluate-windows.ts'
import type { TextSource, TextWindows } from '../evaluation/text-windows.ts'
import type { ModelReference } from './pruning-child-protocol.ts'
import { runInChild } from './run-in-child.ts'

/** The weights to evaluate, and the reference by which a child process opens the same model. */
export interface EvaluationTarget extends EvaluatedWeights {
  reference: ModelReference
}

/** Options of {@link evaluateTexts}. */
export interface EvaluationOptions extends ScoringOptions {
  /** Tokens per window. */
  windowTokens: number
  /** Maximum windows per source; default no limit. */
  maxWindows?: number | undefined
}

/**
 * Computes the perplexity of each source with one set of weights, at background priority. The weights are loaded at the start
 * and released at the end. A child process cuts the texts into windows (see `cutWindows`).
 *
 * @throws AppError as `Backend.load` and `cutWindows` do, or `context_length_exceeded`; the reason of `signal`
 */
export async function evaluateTexts<Weights>(
  backend: ScoringBackend<Weights>,
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

async function windowsInChild(
  model: ModelReference,
  sources: TextSource[],
  windowTokens: number,
  maxWindows: number,
  signal: AbortSignal | undefined,
): Promise<TextWindows[]> {
  const result = await runInChild({ kind: 'windows', model, sources, windowTokens, maxWindows }, { signal })
  if (result.type !== 'windows') throw new RangeError(`the child returned ${result.type} instead of windows`)
  return result.windows
}
