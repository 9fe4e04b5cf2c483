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

/** {@link EvaluatedWeights}, and how the child that cuts texts into windows opens the same model. */
export interface EvaluationTarget extends EvaluatedWeights {
  reference: ModelReference
}

/** How texts are cut and scored. */
export interface EvaluationOptions extends ScoringOptions {
  windowTokens: number
  /** Of each source. */
  maxWindows?: number | undefined
}

/**
 * Perplexity of each source under one set of weights, loaded for this and released after, at the priority of
 * background work. Texts are cut as `cutWindows` says, in a child process.
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
  if (result.type !== 'windows') throw new RangeError(`the child answered ${result.type}`)
  return result.windows
}
