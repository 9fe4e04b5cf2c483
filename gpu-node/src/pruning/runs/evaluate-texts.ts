import type { GenerationCheck } from '@copal/shared/wire/adaptation-jobs.ts'
import { checkGeneration, type GeneratingBackend } from '../evaluation/check-generation.ts'
import {
  requireContext,
  scoreWindows,
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
  /** Whether to check what the weights generate; default false. */
  checkGeneration?: boolean | undefined
}

/** The result of {@link evaluateTexts}. */
export interface TextEvaluation {
  /** One entry per source, in order. */
  sources: Evaluation[]
  /** Undefined unless it was requested. */
  generation?: GenerationCheck
  /** The numerics of the weights; undefined where the backend does not know. */
  numerics?: string | undefined
}

/**
 * Computes the perplexity of each source with one set of weights, at background priority, and checks what they generate if
 * that is requested. The weights are loaded at the start and released at the end. A child process cuts the texts into
 * windows (see `cutWindows`).
 *
 * @throws AppError as `Backend.load` and `cutWindows` do, or `context_length_exceeded`; the reason of `signal`
 */
export async function evaluateTexts<Weights extends { readonly numerics?: string | undefined }>(
  backend: ScoringBackend<Weights> & GeneratingBackend<Weights>,
  target: EvaluationTarget,
  sources: TextSource[],
  options: EvaluationOptions,
): Promise<TextEvaluation> {
  const { windowTokens, maxWindows, signal } = options
  requireContext(target.model, windowTokens)
  const texts = await windowsInChild(
    target.reference,
    sources,
    windowTokens,
    maxWindows ?? Number.MAX_SAFE_INTEGER,
    signal,
  )
  signal?.throwIfAborted()
  try {
    return await evaluateWith(backend, target, texts, options)
  } catch (error) {
    // The weights end when the signal is aborted.
    signal?.throwIfAborted()
    throw error
  }
}

async function evaluateWith<Weights extends { readonly numerics?: string | undefined }>(
  backend: ScoringBackend<Weights> & GeneratingBackend<Weights>,
  { model, version, maskPath }: EvaluationTarget,
  texts: TextWindows[],
  options: EvaluationOptions,
): Promise<TextEvaluation> {
  const { signal } = options
  const weights = await backend.load({ model, version, maskPath, priority: 'background', signal })
  try {
    const evaluations: Evaluation[] = []
    for await (const evaluation of scoreWindows(backend, weights, texts, options))
      evaluations.push(evaluation)
    const measured = { sources: evaluations, numerics: weights.numerics }
    if (!options.checkGeneration) return measured
    return { ...measured, generation: await checkGeneration(backend, weights, model, options) }
  } finally {
    await backend.release(weights)
  }
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
