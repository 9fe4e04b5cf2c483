import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethodVariant, type MethodVariant } from '@copal/gpu-node/pruning/methods/method-variant.ts'
import type { DomainSpec } from '../texts/domain-spec.ts'
import type { PermutationChoice } from './permutations.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'

/** Settings of a laboratory run, checked except for what depends on the model. */
export interface LabSettings {
  /** `pypi:name==version`, `hf:org/name`, or a path. */
  model: string
  cacheDir: string
  outDir: string
  domains: DomainSpec[]
  /** Base of relative paths. */
  cwd: string
  /** Field of newline-delimited JSON that contains the text. */
  field: string
  variants: MethodVariant[]
  patterns: string[]
  /** Patterns of single linears in every mask, as `expandPatterns` takes them. */
  patternRules: unknown
  samples: number
  /** Tokens per calibration sequence; null: 2048, or the model's context if that is shorter. */
  length: number | null
  seed: number
  permutations: PermutationChoice
  propagation: Propagation
  /** Variants to sweep, a subset of `variants`. */
  sweepVariants: MethodVariant[]
  sweepSparsity: string[]
  sweepSamples: number[]
  /** Tokens per evaluation window; null: 2048, or the model's context if that is shorter. */
  windowTokens: number | null
  /** Maximum evaluation windows per domain; null: all. */
  maxWindows: number | null
  threads: number
}

/**
 * Parses methods and drops repetitions.
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
 * Checks sparsity patterns and drops repetitions.
 *
 * @throws AppError `invalid_request`
 */
export function parsePatterns(texts: readonly string[]): string[] {
  for (const text of texts) parsePattern(text)
  return [...new Set(texts)]
}
