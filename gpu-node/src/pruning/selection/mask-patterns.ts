import { AppError } from '@copal/shared/errors.ts'
import { DENSE, linearPattern } from '@copal/shared/mask/mask-metadata.ts'
import {
  keptCounts,
  parsePattern,
  patternError,
  type SparsityPattern,
} from '@copal/shared/mask/sparsity-pattern.ts'
import { suggestName } from '@copal/shared/suggest-name.ts'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import { linearShapes, type LlamaConfig } from '../../model/config/llama-config.ts'

/**
 * Parses the pattern of every linear, by the name of its weight; null for one that stays dense.
 *
 * @throws AppError `invalid_request`, naming the linear, when a pattern does not divide its columns or names no linear of this
 * model, or when all linears are left dense
 */
export function checkPatterns(
  config: LlamaConfig,
  { pattern, patterns = {}, scope }: Omit<SelectionSpec, 'method'>,
): ReadonlyMap<string, SparsityPattern | null> {
  const shapes = linearShapes(config)
  for (const name of Object.keys(patterns)) if (!shapes.has(name)) throw noMatchingLinear(name, shapes.keys())
  const parsed = new Map<string, SparsityPattern | null>()
  for (const [name, [rows, cols]] of shapes) {
    const text = linearPattern({ pattern, patterns }, name)
    const param = Object.hasOwn(patterns, name) ? 'patterns' : 'pattern'
    try {
      const own = text === DENSE ? null : parsePattern(text)
      if (own) keptCounts(own, scope, rows, cols)
      parsed.set(name, own)
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      throw new AppError(error.code, `Linear '${name}': ${error.message}`, { param, cause: error })
    }
  }
  if ([...parsed.values()].every((own) => own === null)) {
    throw new AppError(
      'invalid_request',
      'Every linear is left dense, so there is nothing to prune. Give at least one a pattern.',
      { param: 'patterns' },
    )
  }
  return parsed
}

/**
 * Expands rules such as `{"model.layers.0.*": "dense", "*.down_proj.weight": "0.4"}` to patterns of single linears. `*` stands
 * for any characters. If several rules match a linear, the last one applies.
 *
 * @param rules the unchecked input of a user
 * @returns patterns for `SelectionSpec.patterns`, by the name of the weight
 * @throws AppError `invalid_request`, param `patterns`, quoting a rule that matches nothing or has an invalid pattern
 */
export function expandPatterns(config: LlamaConfig, rules: unknown): Record<string, string> {
  if (typeof rules !== 'object' || rules === null || Array.isArray(rules)) {
    throw invalidPatterns('Patterns of single linears must be an object like {"model.layers.0.*": "dense"}.')
  }
  const names = [...linearShapes(config).keys()]
  const patterns = new Map<string, string>()
  for (const [glob, pattern] of Object.entries(rules)) {
    if (typeof pattern !== 'string') {
      throw invalidPatterns(`The pattern of '${glob}' is not a string like '0.5', '2:4' or '${DENSE}'.`)
    }
    const fault = pattern === DENSE ? undefined : patternError(pattern)
    if (fault !== undefined) throw invalidPatterns(`The pattern of '${glob}': ${fault}, or '${DENSE}'.`)
    const matched = names.filter((name) => matchesGlob(name, glob))
    if (matched.length === 0) throw noMatchingLinear(glob, names)
    for (const name of matched) patterns.set(name, pattern)
  }
  return Object.fromEntries(patterns)
}

/** Returns whether the glob matches the name. */
function matchesGlob(name: string, glob: string): boolean {
  const [start = '', ...rest] = glob.split('*')
  const end = rest.pop()
  if (end === undefined) return name === glob
  if (!name.startsWith(start)) return false
  let at = start.length
  // Matching each part as far left as possible leaves the most characters for the next.
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.endsWith(end) && name.length - end.length >= at
}

function noMatchingLinear(given: string, names: Iterable<string>): AppError {
  const all = [...names]
  const nearest = suggestName(given, all)
  return invalidPatterns(
    `No linear of this model matches '${given}'. ` +
      (nearest === undefined
        ? `The first linear is '${all[0]}', the last '${all.at(-1)}'; '*' matches any characters.`
        : `Did you mean '${nearest}'?`),
  )
}

function invalidPatterns(message: string): AppError {
  return new AppError('invalid_request', message, { param: 'patterns' })
}
