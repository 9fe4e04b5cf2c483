import type { LabResults, LabRun } from './lab-results.ts'

/** Returns the label that distinguishes the runs of one pattern: `copal`, `copal per matrix`. */
export function methodLabel({ method, scope }: Pick<LabRun, 'method' | 'scope'>): string {
  return scope === 'matrix' ? `${method} per matrix` : method
}

/**
 * The rules that the note on scopes names. In their papers the weights of all rows compete, so their run per matrix is the
 * published one. This list is written by hand. `continual-nowag` is published for whole matrices too, but it is not listed:
 * the committed results have no run of it per matrix.
 */
const RULES_OF_SCOPE_NOTE = ['copal', 'sparsegpt']

/** Returns a note on which scope is the published one; undefined if no run uses a rule that the note names. */
export function publishedScopeNote(runs: readonly Pick<LabRun, 'method' | 'pattern'>[]): string | undefined {
  const rules = runs
    .filter(({ pattern }) => !pattern.includes(':'))
    .map(({ method }) => method.split('+')[0] ?? method)
  const named = RULES_OF_SCOPE_NOTE.filter((rule) =>
    rules.some((name) => name.replace(/^continual-/, '') === rule),
  )
  if (named.length === 0) return undefined
  const within = named.includes('sparsegpt') ? ', those of sparsegpt within a block of 128 columns' : ''
  return `${named.join(' and ')} per matrix: the weights of all rows compete${within}, as published; without it those of each row do.`
}

/** Returns the label of a pattern: `50 % unstructured` for `0.5`, `2:4` unchanged. */
export function patternLabel(pattern: string): string {
  return pattern.includes(':') ? pattern : `${Number((Number(pattern) * 100).toFixed(2))} % unstructured`
}

/** Returns the rules as text: `model.layers.0.*: dense, *.down_proj.weight: 0.4`; undefined if there are none. */
export function patternRulesLabel({ patternRules = {} }: LabResults['settings']): string | undefined {
  return (
    Object.entries(patternRules)
      .map(([glob, pattern]) => `${glob}: ${pattern}`)
      .join(', ') || undefined
  )
}

/** Returns the distinct values in the order of their first appearance. */
export function distinct<Value>(values: readonly Value[]): Value[] {
  return [...new Set(values)]
}
