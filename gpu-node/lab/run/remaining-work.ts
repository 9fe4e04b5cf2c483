import { isStageDone } from './assemble-results.ts'
import type { LabCache } from './lab-cache.ts'
import type { Workload } from './estimate-run.ts'
import { maskKey, pairKey, type Findings } from './findings.ts'
import { requiredCalibrations, prunedStatisticsKey, type RunPlan, type StagePlan } from '../plan/plan-runs.ts'
import type { PreparedDomain } from '../texts/prepare-domains.ts'
import type { LabSteps } from './lab-steps.ts'

/** Finds the work whose results are not in the cache. */
export async function findRemainingWork(
  stages: readonly { run: RunPlan; stage: StagePlan }[],
  domains: readonly PreparedDomain[],
  work: Pick<LabSteps, 'hasStatistics'>,
  cache: LabCache,
  findings: Findings,
): Promise<Workload> {
  const tokensOf = new Map(
    domains.map(({ name, evaluation }) => [
      name,
      evaluation.cut.windows.length * (evaluation.cut.windows[0]?.length ?? 0),
    ]),
  )
  const workload: Workload = {
    calibrations: [],
    storedStatistics: 0,
    selections: [],
    weightSetLoads: 0,
    evaluationTokens: 0,
  }
  const load = (names: readonly string[]) => {
    if (names.length === 0) return
    workload.weightSetLoads++
    for (const name of names) workload.evaluationTokens += tokensOf.get(name) ?? 0
  }
  load(domains.map(({ name }) => name).filter((name) => !findings.evaluations.has(pairKey(null, name))))
  const counted = new Map<string, Set<string>>()
  const calibrated = new Set<string>()
  /** Statistics of pruned propagation, by {@link prunedStatisticsKey}: removed when the run's masks are selected. */
  const pruned = new Map<string, number>()
  for (const { stage } of stages) {
    if (isStageDone(stage, findings)) continue
    const { mask, evaluateOn } = stage
    const key = maskKey(mask)
    const found = findings.masks.get(key)
    const seen = counted.get(key)
    const evaluated = seen ?? new Set<string>()
    counted.set(key, evaluated)
    if (!seen && !(found && (await cache.hasMaskFile(found)))) {
      workload.selections.push(mask.method)
      for (const { name, key: own } of requiredCalibrations(mask)) {
        if (calibrated.has(own)) continue
        if (mask.propagation === 'dense' && work.hasStatistics(name, mask.samples)) continue
        calibrated.add(own)
        const sequences = domains
          .find((domain) => domain.name === name)
          ?.calibration?.sequences.get(mask.samples)
        const { propagation, method } = mask
        workload.calibrations.push({ tokens: sequences?.tokens.length ?? 0, propagation, method })
        if (mask.propagation === 'dense') workload.storedStatistics++
        else pruned.set(prunedStatisticsKey(mask), (pruned.get(prunedStatisticsKey(mask)) ?? 0) + 1)
      }
    }
    const missing = evaluateOn.filter(
      (name) => !evaluated.has(name) && !(found && findings.evaluations.has(pairKey(found.sha256, name))),
    )
    for (const name of missing) evaluated.add(name)
    load(missing)
  }
  workload.storedStatistics += Math.max(0, ...pruned.values())
  return workload
}

/** Tells whether nothing remains to be done. */
export function hasNoWork({ calibrations, selections, weightSetLoads }: Workload): boolean {
  return calibrations.length === 0 && selections.length === 0 && weightSetLoads === 0
}
