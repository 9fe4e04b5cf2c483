import { distinct, methodLabel } from '../../results/labels.ts'
import type { LabResults, LabRun } from '../../results/lab-results.ts'
import { styleSeries, type SeriesStyle } from '../plots/plot-theme.ts'

/** Groups the main runs by pattern, in the order of the result. */
export function mainRunsByPattern({ runs }: Pick<LabResults, 'runs'>): { pattern: string; runs: LabRun[] }[] {
  const chosen = runs.filter((run) => run.purpose === 'main')
  return distinct(chosen.map(({ pattern }) => pattern)).map((pattern) => ({
    pattern,
    runs: chosen.filter((run) => run.pattern === pattern),
  }))
}

/** Returns the style of each method for all plots of a report. */
export function methodStyle({ runs }: Pick<LabResults, 'runs'>): SeriesStyle {
  return styleSeries(distinct(runs.map(methodLabel)))
}

/** Joins parts to a name for files and ids, `sparsity-newswire`, with letters, digits and dashes only. */
export function panelName(...parts: string[]): string {
  return parts
    .join('-')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
}
