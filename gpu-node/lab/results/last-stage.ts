import { distinct } from './labels.ts'
import type { LabDomain, LabEvaluation, LabResults, LabRun, LabStage } from './lab-results.ts'

/** Returns the domains that masks were calibrated on, in the result's order. */
export function calibratedDomains({ domains }: Pick<LabResults, 'domains'>): LabDomain[] {
  return domains.filter(({ calibration }) => calibration !== null)
}

/**
 * Returns the stages that end a permutation. An accumulating method has one, whatever the order. A restarted method has
 * one for each domain that came last in some permutation (in a sweep, which has no permutations, for each calibrated
 * domain). With pruned propagation the order counts, so an accumulating method has one for each order that was run
 * (in a sweep, the given order).
 *
 * @returns an empty array while some of them are still to be run
 */
export function lastStages(run: LabRun, results: Pick<LabResults, 'domains' | 'settings'>): LabStage[] {
  const calibrated = calibratedDomains(results).map(({ name }) => name)
  const orders = run.matrices.map(({ order }) => order)
  const lastDomains = distinct(orders.flatMap((order) => order.slice(-1)))
  const isOrdered = results.settings.propagation !== 'dense'
  const wanted = {
    none: [[]],
    newest: (lastDomains.length > 0 ? lastDomains : calibrated).map((name) => [name]),
    accumulated: isOrdered && run.purpose === 'main' ? orders : [calibrated],
  }[run.datasets]
  const areSame = (a: readonly string[], b: readonly string[]) =>
    isOrdered ? a.join() === b.join() : a.toSorted().join() === b.toSorted().join()
  const stages = wanted.map((domains) => run.stages.find((stage) => areSame(stage.domains, domains)))
  return stages.every((stage) => stage !== undefined) ? stages : []
}

/**
 * Returns the evaluation of a run on one domain after its last stage. If several stages may be the last, each window's
 * NLL is the mean over them, and the perplexity is computed from the mean NLL.
 *
 * @returns null if it was not measured
 */
export function evaluationAfterLastStage(
  run: LabRun,
  domain: string,
  results: Pick<LabResults, 'domains' | 'settings'>,
): LabEvaluation | null {
  const stages = lastStages(run, results)
  const evaluations = stages
    .map((stage) => stage.evaluations[domain])
    .filter((evaluation) => evaluation !== undefined)
  const [first] = evaluations
  if (first === undefined || evaluations.length < stages.length) return null
  if (evaluations.length === 1) return first
  const meanOf = (value: (evaluation: LabEvaluation) => number): number =>
    evaluations.reduce((sum, evaluation) => sum + value(evaluation), 0) / evaluations.length
  const nllMean = meanOf((evaluation) => evaluation.nllMean)
  return {
    nllMean,
    perplexity: Math.exp(nllMean),
    tokens: first.tokens,
    windowNll: first.windowNll.map((_, window) => meanOf(({ windowNll }) => windowNll[window] ?? Number.NaN)),
  }
}
