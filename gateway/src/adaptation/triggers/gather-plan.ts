import { DAY_MS } from '@copal/shared/day.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listHeldAlerts } from '../../storage/db/queries/alert-queries.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listLatestHoldouts } from '../../storage/db/queries/holdout-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import {
  countUpdatesOf,
  findPolicySetMs,
  listDryRuns,
  listPastUpdates,
  sumTokensUnder,
} from '../../storage/db/queries/trigger-queries.ts'
import { sumDrift } from '../../storage/db/queries/usage-total-queries.ts'
import { operatorTrial } from '../../storage/db/trials-in-force.ts'
import { evaluationWindow } from '../updates/evaluation-window.ts'
import { MAX_ASKED } from '../sampling/domain-counts.ts'
import { drawOf } from '../updates/draw-of.ts'
import { nameOf } from '../updates/trial-check.ts'
import { demandOf } from '../updates/update-choices.ts'
import { domainHistories } from './domain-history.ts'
import type { PlanInput } from './plan-update.ts'
import { withTexts, type FactsBesideTexts } from './plan-texts.ts'
import { nextStart } from './start-times.ts'

/** The dependencies of plans. */
export type PlanDeps = Pick<Deps, 'db' | 'fleet' | 'reservoir' | 'nowMs' | 'adaptationPreset'>

/** Isolates have clocks of their own. */
const MAX_CLOCK_SKEW_MS = 60_000

/** How much a plan reads. */
interface PlanOptions {
  /** False reads no texts while no update may start, which is most of the time. */
  always: boolean
  /** Reservoirs that may be asked. */
  maxAsked?: number
}

/** Reads what a plan for a model is made from. Of more domains than may be asked, most texts are counted as D1 has them. */
export async function gatherPlan(
  deps: PlanDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
  { always, maxAsked = MAX_ASKED }: PlanOptions,
): Promise<PlanInput> {
  const nowMs = deps.nowMs()
  const [updates, updateCount, dryRuns, policySetMs, obstacle] = await Promise.all([
    listPastUpdates(deps.db, model.id),
    countUpdatesOf(deps.db, model.id),
    listDryRuns(deps.db, model.id, nowMs - DAY_MS),
    findPolicySetMs(deps.db, model.id),
    findObstacle(deps, model, policy),
  ])
  // Nothing would start until times have passed that are ahead of the clock, which was set back since.
  const past = (atMs: number) => (atMs - nowMs > MAX_CLOCK_SKEW_MS ? 0 : atMs)
  const input = {
    nowMs,
    policy: policy.triggers,
    policySetMs,
    demand: demandOf(model, policy),
    windowTokens: evaluationWindow(model),
    updates: updates
      .map(({ createdAt, finishedAt, ...update }) => ({
        ...update,
        createdAt: past(createdAt),
        finishedAt: finishedAt === null ? null : past(finishedAt),
      }))
      .toSorted((a, b) => b.createdAt - a.createdAt),
    updateCount,
    dryRuns: dryRuns.map(({ createdAt }) => past(createdAt)),
    obstacle,
  }
  if (!always && nextStart(input).waitsFor !== undefined) return { ...input, domains: [] }
  const histories = domainHistories(input.updates, policy.triggers.cooldown_minutes)
  const facts = (await listFacts(deps, model)).map((each) => ({
    ...each,
    history: histories.get(each.domain),
  }))
  const draw = drawOf({ model: model.id, ...input.demand }, policy.influence)
  return { ...input, domains: await withTexts(deps, input, facts, { draw, maxAsked }) }
}

async function listFacts(deps: PlanDeps, model: ModelRow): Promise<Omit<FactsBesideTexts, 'history'>[]> {
  const { activeVersion, previousVersion, domainVersions } = model
  const serving = [activeVersion, ...domainVersions.values()]
  const [domains, holdouts, drift, traffic, alerts] = await Promise.all([
    listDomains(deps.db),
    listLatestHoldouts(deps.db),
    sumDrift(deps.db, { model: model.id, versions: serving }),
    sumTokensUnder(deps.db, model.id, [...serving, previousVersion ?? activeVersion]),
    listHeldAlerts(deps.db, model.id),
  ])
  const latest = new Map(holdouts.map(({ domain, characters }) => [domain, characters]))
  const servesIn = (domain: string) => domainVersions.get(domain) ?? activeVersion
  const scored = drift.filter(({ domain, maskVersion }) => maskVersion === servesIn(domain))
  const scoredOf = new Map(scored.map((each) => [each.domain, each]))
  const alertsOf = Map.groupBy(alerts, ({ domain }) => domain)
  return domains.map(({ name: domain, createdAt: createdAtMs }) => ({
    domain,
    latestHoldout: latest.get(domain),
    scored: scoredOf.get(domain),
    alerts: alertsOf.get(domain) ?? [],
    trafficTokens: traffic.get(domain) ?? 0,
    createdAtMs,
  }))
}

/** Returns why an update of a model could not succeed now. */
async function findObstacle(
  deps: PlanDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
): Promise<string | undefined> {
  const operators = operatorTrial(model)
  // Its own canary could not begin.
  if (operators && policy.canary.enabled)
    return `an operator's trial of ${nameOf(operators.trial.version)} is running`
  // Without a node nobody knows which pruning methods there are.
  if ((await deps.fleet.offeredMethods(model.id)) === null) return `no node of '${model.id}' is alive`
  return undefined
}
