import { distinct, methodLabel } from '../../results/labels.ts'
import type { LabResults, LabRun } from '../../results/lab-results.ts'
import { styleSeries, type SeriesStyle } from '../plots/plot-theme.ts'

/** Runs of one purpose, those of one pattern together, both in the result's order. */
export function runsByPattern(
  { runs }: Pick<LabResults, 'runs'>,
  purpose: LabRun['purpose'],
): { pattern: string; runs: LabRun[] }[] {
  const chosen = runs.filter((run) => run.purpose === purpose)
  return distinct(chosen.map(({ pattern }) => pattern)).map((pattern) => ({
    pattern,
    runs: chosen.filter((run) => run.pattern === pattern),
  }))
}

/** One style a method for all plots of a report. */
export function methodStyle({ runs }: Pick<LabResults, 'runs'>): SeriesStyle {
  return styleSeries(distinct(runs.map(methodLabel)))
}

/** `sparsity-newswire` of `sparsity` and `newswire`: letters, digits and dashes, for file names and ids. */
export function panelName(...parts: string[]): string {
  return parts
    .join('-')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '')
}
