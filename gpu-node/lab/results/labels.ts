import type { LabResults, LabRun } from './lab-results.ts'

/** What tells runs of one pattern apart: `copal`, `copal per matrix`. */
export function methodLabel({ method, scope }: Pick<LabRun, 'method' | 'scope'>): string {
  return scope === 'matrix' ? `${method} per matrix` : method
}

/** Rules that let the weights of all rows compete, in their papers: each has a run per matrix that is the published one. */
const PUBLISHED_PER_MATRIX = ['copal', 'sparsegpt']

/** Which of these runs are as published, where there are two ways to count a ratio; undefined where none is of such a rule. */
export function publishedScopeNote(runs: readonly Pick<LabRun, 'method' | 'pattern'>[]): string | undefined {
  const rules = runs
    .filter(({ pattern }) => !pattern.includes(':'))
    .map(({ method }) => method.split('+')[0] ?? method)
  const named = PUBLISHED_PER_MATRIX.filter((rule) =>
    rules.some((name) => name.replace(/^continual-/, '') === rule),
  )
  if (named.length === 0) return undefined
  const within = named.includes('sparsegpt') ? ', those of sparsegpt within a block of 128 columns' : ''
  return `${named.join(' and ')} per matrix: the weights of all rows compete${within}, as published; without it those of each row do.`
}

/** `50 % unstructured` of `0.5`; `2:4` as it is. */
export function patternLabel(pattern: string): string {
  return pattern.includes(':') ? pattern : `${Number((Number(pattern) * 100).toFixed(2))} % unstructured`
}

/** `model.layers.0.*: dense, *.down_proj.weight: 0.4`; undefined where all linears have the pattern of the run. */
export function patternRulesLabel({ patternRules = {} }: LabResults['settings']): string | undefined {
  return (
    Object.entries(patternRules)
      .map(([glob, pattern]) => `${glob}: ${pattern}`)
      .join(', ') || undefined
  )
}

/** Distinct values in the order of their first appearance. */
export function distinct<Value>(values: readonly Value[]): Value[] {
  return [...new Set(values)]
}
