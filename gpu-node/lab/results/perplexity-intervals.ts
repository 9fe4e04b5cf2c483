import {
  BOOTSTRAP,
  drawWindows,
  MIN_WINDOWS,
  resampledMeans,
  stretchedInterval,
  type Interval,
} from './bootstrap.ts'
import { calibratedDomains } from './last-stage.ts'
import { statisticsDomains } from '../plan/plan-runs.ts'
import type { LabEvaluation, LabResults, LabRun } from './lab-results.ts'

/** Intervals of a run's mean perplexity (a-ppl) over resampled evaluation windows. */
export interface PerplexityIntervals {
  /** Interval of the perplexity itself. */
  own: Interval
  /** Ratio to the lowest of the given runs, whose ratio is 1; in every resample both use the same windows. */
  ratioToLowest: Interval
}

/**
 * Creates a function that computes 95 % intervals for the a-ppl of runs with a summary ({@link stretchedInterval}).
 * Each resample draws the evaluation windows of every domain once for all runs, stages and permutations.
 *
 * @returns a function of the runs of one table; it leaves out runs with a cell that was not measured, or measured on
 * fewer than {@link MIN_WINDOWS} windows
 */
export function createPerplexityIntervals(
  results: Pick<LabResults, 'domains' | 'settings'>,
): (runs: readonly LabRun[]) => Map<LabRun, PerplexityIntervals> {
  const draws = new Map<string, Uint32Array>()
  const drawsOf = (domain: string): Uint32Array => {
    const index = results.domains.findIndex(({ name }) => name === domain)
    const windows = results.domains[index]?.evaluation.windows ?? 0
    const drawn = draws.get(domain) ?? drawWindows(windows, { ...BOOTSTRAP, seed: BOOTSTRAP.seed + index })
    draws.set(domain, drawn)
    return drawn
  }
  return (runs) => {
    const resampled = new Map<LabRun, Float64Array>()
    for (const run of runs) {
      const cells = run.summary?.aPpl == null ? null : cellsOf(run, results.settings.propagation)
      if (cells) resampled.set(run, meanPerplexities(cells, drawsOf))
    }
    const fewest = Math.min(...calibratedDomains(results).map(({ evaluation }) => evaluation.windows))
    const [lowest] = [...resampled.keys()].toSorted((a, b) => meanOf(a) - meanOf(b))
    const reference = lowest && resampled.get(lowest)?.slice()
    const intervals = new Map<LabRun, PerplexityIntervals>()
    for (const [run, means] of resampled) {
      const ratios = means.map((mean, resample) => mean / (reference?.[resample] ?? Number.NaN))
      intervals.set(run, {
        own: intervalOf(meanOf(run), means, fewest),
        ratioToLowest: intervalOf(lowest ? meanOf(run) / meanOf(lowest) : Number.NaN, ratios, fewest),
      })
    }
    return intervals
  }
}

/** An evaluation, and the number of cells of the R matrices that hold it. */
interface Cell {
  domain: string
  evaluation: LabEvaluation
  count: number
}

/** @returns null if a cell was not measured, or measured on too few windows */
function cellsOf(run: LabRun, propagation: LabResults['settings']['propagation']): Cell[] | null {
  const cells = new Map<LabEvaluation, Cell>()
  for (const { order } of run.matrices) {
    for (const stage of order.keys()) {
      const domains = statisticsDomains(run, order.slice(0, stage + 1), propagation).join()
      const found = run.stages.find((candidate) => candidate.domains.join() === domains)
      for (const domain of order.slice(0, stage + 1)) {
        const evaluation = found?.evaluations[domain]
        if (!evaluation || evaluation.windowNll.length < MIN_WINDOWS) return null
        const cell = cells.get(evaluation) ?? { domain, evaluation, count: 0 }
        cell.count++
        cells.set(evaluation, cell)
      }
    }
  }
  return [...cells.values()]
}

/** Mean perplexity over the cells, in each resample. */
function meanPerplexities(cells: readonly Cell[], drawsOf: (domain: string) => Uint32Array): Float64Array {
  const total = cells.reduce((sum, { count }) => sum + count, 0)
  const means = new Float64Array(BOOTSTRAP.resamples)
  for (const { domain, evaluation, count } of cells) {
    const nll = resampledMeans(evaluation.windowNll, drawsOf(domain))
    for (let i = 0; i < means.length; i++)
      means[i] = (means[i] as number) + (count / total) * Math.exp(nll[i] as number)
  }
  return means
}

/** Stretches the interval on a log scale, where the value is nearly a mean; this also keeps perplexities positive. */
function intervalOf(mean: number, resampled: Float64Array, windows: number): Interval {
  const { low, high } = stretchedInterval(Math.log(mean), resampled.map(Math.log), windows)
  return { mean, low: Math.exp(low), high: Math.exp(high) }
}

function meanOf({ summary }: LabRun): number {
  return summary?.aPpl ?? Number.NaN
}
