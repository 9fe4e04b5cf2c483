import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethodVariant, type MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'
import type { DomainSpec } from '../texts/domain-spec.ts'
import type { PermutationChoice } from './permutations.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'

/** What a laboratory run is asked for, checked but for what only the model knows. */
export interface LabSettings {
  /** `pypi:name==version`, `hf:org/name`, or a path. */
  model: string
  cacheDir: string
  outDir: string
  domains: DomainSpec[]
  /** Where their relative paths start. */
  cwd: string
  /** Field of newline-delimited JSON that holds the text. */
  field: string
  variants: MethodVariant[]
  patterns: string[]
  /** Patterns of single linears in every mask, as `expandPatterns` takes them. */
  patternRules: unknown
  samples: number
  /** Tokens of a calibration sequence; null: 2048, or the model's context where that is shorter. */
  length: number | null
  seed: number
  permutations: PermutationChoice
  propagation: Propagation
  /** Of the sweeps: some of `variants`. */
  sweepVariants: MethodVariant[]
  sweepSparsity: string[]
  sweepSamples: number[]
  /** Tokens of an evaluation window; null: 2048, or the model's context where that is shorter. */
  windowTokens: number | null
  /** Most evaluation windows a domain; null: all. */
  maxWindows: number | null
  threads: number
}

/**
 * Reads methods, without repetitions.
 *
 * @throws AppError `invalid_request`
 */
export function parseVariants(texts: readonly string[]): MethodVariant[] {
  const variants = texts.map(parseMethodVariant)
  return variants.filter(
    ({ method, scope }, index) =>
      variants.findIndex((other) => other.method === method && other.scope === scope) === index,
  )
}

/**
 * Reads sparsity patterns, without repetitions.
 *
 * @throws AppError `invalid_request`
 */
export function parsePatterns(texts: readonly string[]): string[] {
  for (const text of texts) parsePattern(text)
  return [...new Set(texts)]
}
