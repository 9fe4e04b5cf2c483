import { AppError } from '@copal/shared/errors.ts'
import type { MaskScope } from '@copal/shared/mask/sparsity-pattern.ts'
import { parsePattern } from '@copal/shared/mask/sparsity-pattern.ts'
import { parseMethod } from '@copal/gpu-node/pruning/methods/method-registry.ts'
import type { DomainSpec } from './domain-spec.ts'
import type { PermutationChoice } from './permutations.ts'
import type { Propagation } from '@copal/gpu-node/pruning/calibration/pruned-propagation.ts'
import type { Variant } from './plan.ts'

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
  variants: Variant[]
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
  sweepVariants: Variant[]
  sweepSparsity: string[]
  sweepSamples: number[]
  /** Tokens of an evaluation window; null: 2048, or the model's context where that is shorter. */
  windowTokens: number | null
  /** Most evaluation windows a domain; null: all. */
  maxWindows: number | null
  threads: number
}

/**
 * Reads `copal`, or `copal@matrix` for a method that keeps the lowest of the whole matrix instead of each row.
 *
 * @throws AppError `invalid_request`
 */
export function parseVariant(text: string): Variant {
  const at = text.indexOf('@')
  const scope = at < 0 ? 'row' : text.slice(at + 1)
  if (!isScope(scope)) {
    throw new AppError('invalid_request', `'${text}': after '@' comes 'row' or 'matrix'.`, {
      param: 'methods',
    })
  }
  const { name, datasets, rows } = parseMethod(at < 0 ? text : text.slice(0, at))
  // Rows that share a ratio do so whatever the scope: one variant, not two.
  return { method: name, scope: rows ? 'row' : scope, datasets }
}

/**
 * Reads methods, without repetitions.
 *
 * @throws AppError `invalid_request`
 */
export function parseVariants(texts: readonly string[]): Variant[] {
  const variants = texts.map(parseVariant)
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

function isScope(text: string): text is MaskScope {
  return text === 'row' || text === 'matrix'
}
