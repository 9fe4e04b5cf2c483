import { BOOTSTRAP, MIN_WINDOWS } from '../../results/bootstrap.ts'
import { createPerplexityIntervals, type PerplexityIntervals } from '../../results/perplexity-intervals.ts'
import {
  arithmeticMean,
  differenceCell,
  emphasiseLowest,
  intervalCell,
  MISSING,
  perplexityCell,
  ratioIntervalCell,
} from '../document/report-cells.ts'
import { calibratedDomains } from '../../results/last-stage.ts'
import { methodLabel, patternLabel } from '../../results/labels.ts'
import type { LabResults, LabRun } from '../../results/lab-results.ts'
import { hasWeightStasis, meansOfMaxima } from '../../results/summary.ts'
import { numberColumn, paragraph, textColumn, type Section, type Table } from '../document/report-document.ts'
import { mainRunsByPattern } from '../document/report-runs.ts'

const DATASETS = { none: 'none', newest: 'newest only', accumulated: 'accumulated' }

/** Returns the section with the paper's main table, one per pattern. */
export function forgettingSection(results: LabResults): Section | undefined {
  const patterns = mainRunsByPattern(results)
  if (patterns.length === 0) return undefined
  const intervalsOf = createPerplexityIntervals(results)
  return {
    title: 'Forgetting and perplexity',
    blocks: [
      paragraph(
        'Backward transfer (bwt) is the perplexity on an earlier dataset after the last stage less that right after its own stage: positive is forgetting. Perplexity (ppl) is over every stage at or after a dataset. Mean (a-) and maximum (m-) over all permutations that were run, as in the COPAL paper; in brackets the mean of the maxima of the permutations, which the paper has for LLaMA-7B. WS: weight stasis, neither the mask nor a weight that stays ever changed.',
      ),
      paragraph(
        `Intervals hold 95 % of ${BOOTSTRAP.resamples.toLocaleString('en')} resamples of the evaluation windows (bootstrap, seed ${BOOTSTRAP.seed}), stretched for how few windows there are: how sure a figure is of these texts, whose windows differ much. ÷ lowest is a-ppl by the lowest of the table, both of the same windows in every resample, so that what is hard for all does not widen it: it tells methods apart where the intervals of a-ppl overlap; a table that lacks a method has none, and neither has a run with fewer than ${MIN_WINDOWS} windows of a domain. Neither speaks of other calibration samples.`,
      ),
      ...patterns.map(({ pattern, runs }) => mainTable(results, pattern, runs, intervalsOf(runs))),
    ],
  }
}

/** Adds the mean of the maxima of the permutations to their maximum, unless nothing was measured. */
function withMean(maximum: string, mean: string): string {
  return maximum === MISSING ? maximum : `${maximum} (${mean})`
}

function mainTable(
  results: LabResults,
  pattern: string,
  runs: readonly LabRun[],
  intervals: ReadonlyMap<LabRun, PerplexityIntervals>,
): Table {
  const complete = runs.every(({ summary }) => typeof summary?.aPpl === 'number')
  const rows = runs.map((run) => {
    const { method, scope, datasets, summary } = run
    const isStill = hasWeightStasis(run)
    const means = meansOfMaxima(run.matrices)
    return [
      methodLabel({ method, scope }),
      isStill ? 'WS' : differenceCell(summary?.aBwt),
      isStill ? 'WS' : withMean(differenceCell(summary?.mBwt), differenceCell(means.mBwt)),
      perplexityCell(summary?.aPpl),
      intervalCell(intervals.get(run)?.own),
      ratioIntervalCell(complete ? intervals.get(run)?.ratioToLowest : undefined),
      withMean(perplexityCell(summary?.mPpl), perplexityCell(means.mPpl)),
      DATASETS[datasets],
    ]
  })
  const dense = calibratedDomains(results).flatMap(({ name }) => results.dense[name]?.perplexity ?? [])
  return {
    kind: 'table',
    caption: patternLabel(pattern),
    columns: [
      textColumn('Method'),
      ...['a-bwt', 'm-bwt', 'a-ppl', '95 %', '÷ lowest', 'm-ppl'].map((title) => numberColumn(title)),
      textColumn('Statistic'),
    ],
    rows: [
      [
        'dense',
        '',
        '',
        perplexityCell(arithmeticMean(dense)),
        '',
        '',
        perplexityCell(dense.length > 0 ? Math.max(...dense) : null),
        '',
      ],
      ...emphasiseLowest(
        rows,
        3,
        runs.map(({ summary }) => summary?.aPpl),
      ),
    ],
  }
}
