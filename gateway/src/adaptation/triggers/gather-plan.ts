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
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import { evaluationWindow } from '../updates/evaluation-window.ts'
import { MAX_CHARACTER_BYTES } from '../sampling/text-bytes.ts'
import { drawOf } from '../updates/draw-of.ts'
import { isEnough, type TextDemand } from '../updates/text-sufficiency.ts'
import { demandOf } from '../updates/update-choices.ts'
import { domainHistories } from './domain-history.ts'
import type { DomainFacts } from './due-domain.ts'
import type { PlanInput } from './plan-update.ts'
import { nextStart } from './start-times.ts'

/** The dependencies of plans. */
export type PlanDeps = Pick<Deps, 'db' | 'fleet' | 'reservoir' | 'nowMs' | 'adaptationPreset'>

const DAY_MS = 24 * 60 * 60 * 1000
/** Reservoirs that are asked at once. */
const MAX_CALLS = 16

/**
 * Reads what a plan for a model is made from.
 *
 * @param options `always: false` reads no texts while no update may start, which is most of the time
 */
export async function gatherPlan(
  deps: PlanDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
  options: { always: boolean },
): Promise<PlanInput> {
  const nowMs = deps.nowMs()
  const [updates, updateCount, dryRuns, policySetMs, obstacle] = await Promise.all([
    listPastUpdates(deps.db, model.id),
    countUpdatesOf(deps.db, model.id),
    listDryRuns(deps.db, model.id, nowMs - DAY_MS),
    findPolicySetMs(deps.db, model.id),
    findObstacle(deps, model, policy),
  ])
  const input = {
    nowMs,
    policy: policy.triggers,
    policySetMs,
    demand: demandOf(model, policy),
    windowTokens: evaluationWindow(model),
    updates,
    updateCount,
    dryRuns: dryRuns.map(({ createdAt }) => createdAt),
    obstacle,
  }
  const isNeeded = options.always || nextStart(input).waitsFor === undefined
  const histories = domainHistories(updates, policy.triggers.cooldown_minutes)
  const domains = isNeeded ? await listFacts(deps, model, policy, input.demand) : []
  return {
    ...input,
    domains: domains.map((facts) => ({ ...facts, history: histories.get(facts.domain) })),
  }
}

async function listFacts(
  deps: PlanDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
  demand: TextDemand,
): Promise<Omit<DomainFacts, 'history'>[]> {
  const versions = [model.activeVersion, model.previousVersion ?? model.activeVersion]
  const [domains, holdouts, drift, traffic, alerts] = await Promise.all([
    listDomains(deps.db),
    listLatestHoldouts(deps.db),
    sumDrift(deps.db, { model: model.id }),
    sumTokensUnder(deps.db, model.id, versions),
    listHeldAlerts(deps.db, model.id),
  ])
  const facts: Omit<DomainFacts, 'history'>[] = []
  for (let first = 0; first < domains.length; first += MAX_CALLS) {
    const some = domains.slice(first, first + MAX_CALLS)
    const texts = await Promise.all(some.map(({ name }) => textsOf(deps, name, model, policy, demand)))
    for (const [index, { newCharacters, takeableBytes, holdoutCharacters }] of texts.entries()) {
      const { name: domain = '', createdAt = 0 } = some[index] ?? {}
      facts.push({
        domain,
        newCharacters,
        takeableBytes,
        heldOut: {
          latest: holdouts.find((holdout) => holdout.domain === domain)?.characters,
          reservoir: holdoutCharacters,
        },
        scored: drift.find((each) => each.domain === domain && each.maskVersion === model.activeVersion),
        alerts: alerts.filter((alert) => alert.domain === domain),
        trafficTokens: traffic.get(domain) ?? 0,
        createdAtMs: createdAt,
      })
    }
  }
  return facts
}

/** Returns the sizes of a domain's texts. What an update would take is drawn only where there may be enough text for one. */
async function textsOf(
  { reservoir }: PlanDeps,
  domain: string,
  { id: model }: ModelRow,
  { influence }: AdaptationPolicy,
  demand: TextDemand,
): Promise<{ newCharacters: number; takeableBytes: number; holdoutCharacters: number }> {
  const { newCharacters, holdoutCharacters } = await reservoir(domain).stats(model)
  const takeableBytes = isEnough(newCharacters * MAX_CHARACTER_BYTES, demand)
    ? await reservoir(domain).available(drawOf({ model, ...demand }, influence))
    : newCharacters
  return { newCharacters, takeableBytes, holdoutCharacters }
}

/** Returns why an update of a model could not succeed now. */
async function findObstacle(
  deps: PlanDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
): Promise<string | undefined> {
  const trials = trialsInForce(model)
  const operators = Object.values(trials).find(({ updateId }) => updateId === undefined)
  // Its own canary could not begin.
  if (operators && policy.canary.enabled) return `an operator's trial of m${operators.version} is running`
  // Without a node nobody knows which pruning methods there are.
  if ((await deps.fleet.offeredMethods(model.id)) === null) return `no node of '${model.id}' is alive`
  return undefined
}
