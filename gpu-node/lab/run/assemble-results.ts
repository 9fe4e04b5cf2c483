import { counted } from '@copal/gpu-node/platform/quantities.ts'
import { maskKey, pairKey, type Findings } from './findings.ts'
import { methodLabel, patternLabel } from '../results/labels.ts'
import { statisticsDomains, type MaskPlan, type RunPlan, type StagePlan } from '../plan/plan-runs.ts'
import {
  RESULTS_FORMAT_VERSION,
  type LabCalibration,
  type LabEvaluation,
  type LabResults,
  type LabRun,
  type LabStage,
  type TimingMachine,
  type StageMatrix,
} from '../results/lab-results.ts'
import { summarise } from '../results/summary.ts'

/** The inputs and circumstances of a run: every part of its results that is not a measurement. */
export type RunDescription = Pick<
  LabResults,
  | 'created'
  | 'version'
  | 'machine'
  | 'settings'
  | 'model'
  | 'domains'
  | 'permutations'
  | 'sensitivities'
  | 'warnings'
>

/** Assembles the results of the planned runs from what was found so far, with a list of what is missing. */
export function assembleResults(
  about: RunDescription,
  runs: readonly RunPlan[],
  findings: Findings,
): LabResults {
  const names = about.domains.map(({ name }) => name)
  const dense = evaluationsOf(null, names, findings)
  return {
    format_version: RESULTS_FORMAT_VERSION,
    ...about,
    dense,
    runs: runs.map((run) => assembleRun(run, findings)).filter(({ stages }) => stages.length > 0),
    calibration: calibrationsOf(about, runs, findings),
    timedOn: timingMachinesOf(findings),
    incomplete: [
      ...(Object.keys(dense).length < names.length ? ['dense'] : []),
      ...runs.flatMap((run) => describeMissing(run, findings)),
    ],
  }
}

/** Tells whether a stage's mask is selected and evaluated on all its domains. */
export function isStageDone({ mask, evaluateOn }: StagePlan, { masks, evaluations }: Findings): boolean {
  const found = masks.get(maskKey(mask))
  return found !== undefined && evaluateOn.every((domain) => evaluations.has(pairKey(found.sha256, domain)))
}

/** Returns the display name of a run: `copal per matrix at 2:4`, `wanda at 50 % unstructured, 8 samples`. */
export function runLabel({ purpose, variant, pattern, samples }: RunPlan): string {
  const label = `${methodLabel(variant)} at ${patternLabel(pattern)}`
  return purpose === 'sample-sweep' ? `${label}, ${counted(samples, 'sample')}` : label
}

/** Returns the masks of one order's stages, first to last. */
export function masksOfOrder(
  { variant, stages, propagation }: RunPlan,
  order: readonly string[],
): MaskPlan[] {
  return order.map((_, stage) => {
    const domains = statisticsDomains(variant, order.slice(0, stage + 1), propagation).join()
    const found = stages.find(({ mask }) => mask.domains.join() === domains)
    if (!found) throw new RangeError(`no mask was planned for ${domains}`)
    return found.mask
  })
}

function assembleRun(run: RunPlan, findings: Findings): LabRun {
  const { purpose, variant, pattern, samples, stages, orders } = run
  const isComplete = stages.every((stage) => isStageDone(stage, findings))
  const matrices = orders.flatMap((order) => matrixOf(run, order, findings) ?? [])
  return {
    purpose,
    ...variant,
    pattern,
    samples,
    stages: stages.flatMap((stage) => assembleStage(stage, findings) ?? []),
    matrices,
    // A summary over only some of the orders would be misleading.
    summary: isComplete && matrices.length === orders.length ? summarise(matrices) : null,
  }
}

function assembleStage({ mask, evaluateOn }: StagePlan, findings: Findings): LabStage | null {
  const found = findings.masks.get(maskKey(mask))
  if (!found) return null
  const evaluations = evaluationsOf(found.sha256, evaluateOn, findings)
  if (Object.keys(evaluations).length === 0) return null
  const evaluate = evaluateOn.reduce(
    (sum, domain) => sum + (findings.evaluations.get(pairKey(found.sha256, domain))?.seconds ?? 0),
    0,
  )
  return {
    domains: mask.domains,
    maskSha256: found.sha256,
    sparsity: found.sparsity,
    seconds: { select: found.seconds, evaluate },
    layerErrors: found.layerErrors,
    evaluations,
  }
}

function evaluationsOf(
  sha256: string | null,
  domains: readonly string[],
  findings: Findings,
): Record<string, LabEvaluation> {
  return Object.fromEntries(
    domains.flatMap((domain) => {
      const found = findings.evaluations.get(pairKey(sha256, domain))
      if (!found) return []
      const { nllMean, perplexity, tokens, windowNll } = found
      return [[domain, { nllMean, perplexity, tokens, windowNll }]]
    }),
  )
}

/** @returns null while a mask of the order, or the difference between two consecutive masks, is unknown */
function matrixOf(run: RunPlan, order: string[], findings: Findings): StageMatrix | null {
  const masks = masksOfOrder(run, order).map((mask) => findings.masks.get(maskKey(mask)))
  const churn: number[] = []
  for (const [stage, mask] of masks.entries()) {
    if (!mask) return null
    const next = masks[stage + 1]
    if (!next) continue
    const changed = churnBetween(mask.sha256, next.sha256, findings)
    if (changed === undefined) return null
    churn.push(changed)
  }
  const R = masks.map((mask, stage) =>
    order.map((domain, position) =>
      position > stage || !mask
        ? null
        : (findings.evaluations.get(pairKey(mask.sha256, domain))?.perplexity ?? null),
    ),
  )
  return { order, R, churn }
}

/** Fraction of bits that differ between two masks; undefined while it is unknown. */
function churnBetween(a: string, b: string, { churns }: Findings): number | undefined {
  return a === b ? 0 : churns.get(pairKey(a, b))
}

function calibrationsOf(
  { domains }: RunDescription,
  runs: readonly RunPlan[],
  findings: Findings,
): LabCalibration[] {
  const counts = [...new Set(runs.map(({ samples }) => samples))]
  return counts.flatMap((samples) =>
    domains.flatMap(({ name: domain }) => {
      const found = findings.calibrations.get(pairKey(domain, samples))
      if (!found) return []
      const { seconds, tokens } = found
      return [{ domain, samples, seconds, tokens, tokensPerSecond: seconds > 0 ? tokens / seconds : 0 }]
    }),
  )
}

/** The distinct machines on which the findings were timed; null if it was not recorded. */
function timingMachinesOf({ masks, evaluations, calibrations }: Findings): (TimingMachine | null)[] {
  const found = [...masks.values(), ...evaluations.values(), ...calibrations.values()]
  const machines = new Map(found.map(({ ranOn = null }) => [JSON.stringify(ranOn), ranOn]))
  return [...machines].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, ranOn]) => ranOn)
}

function describeMissing(run: RunPlan, findings: Findings): string[] {
  const done = run.stages.filter((stage) => isStageDone(stage, findings)).length
  const total = run.stages.length
  if (done < total) return [`${runLabel(run)}: ${total - done} of ${total} masks`]
  const unknown = run.orders.filter((order) => matrixOf(run, order, findings) === null).length
  return unknown > 0 ? [`${runLabel(run)}: how much the masks changed`] : []
}
