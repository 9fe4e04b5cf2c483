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

/** How sure the mean perplexity (a-ppl) of a run is of the texts that it was measured on. */
export interface PerplexityIntervals {
  own: Interval
  /** By the lowest of the runs given, which has 1; in every resample both are of the same windows. */
  ratioToLowest: Interval
}

/**
 * 95 % intervals for the a-ppl of runs with a summary ({@link stretchedInterval}): in each
 * resample every domain's evaluation windows are drawn again, once for all runs, stages and permutations.
 *
 * @returns a function of the runs of one table; nothing of a run whose cells were not all measured, each on at least
 * {@link MIN_WINDOWS} windows
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

/** An evaluation that R matrices hold, and in how many of their cells. */
interface Cell {
  domain: string
  evaluation: LabEvaluation
  count: number
}

/** @returns null where one was not measured, or on too few windows */
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

/** The mean over the cells of their perplexity, in each resample. */
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

/** Stretched as its logarithm is, which is a mean, or nearly: so no perplexity falls below 0. */
function intervalOf(mean: number, resampled: Float64Array, windows: number): Interval {
  const { low, high } = stretchedInterval(Math.log(mean), resampled.map(Math.log), windows)
  return { mean, low: Math.exp(low), high: Math.exp(high) }
}

function meanOf({ summary }: LabRun): number {
  return summary?.aPpl ?? Number.NaN
}
