import type { LabRun } from './results.ts'

/** What tells runs of one pattern apart: `copal`, `copal per matrix`. */
export function methodLabel({ method, scope }: Pick<LabRun, 'method' | 'scope'>): string {
  return scope === 'matrix' ? `${method} per matrix` : method
}

/** `50 % unstructured` of `0.5`; `2:4` as it is. */
export function patternLabel(pattern: string): string {
  return pattern.includes(':') ? pattern : `${Number((Number(pattern) * 100).toFixed(2))} % unstructured`
}

/** Distinct values in the order of their first appearance. */
export function distinct<Value>(values: readonly Value[]): Value[] {
  return [...new Set(values)]
}
