import { AppError } from '@copal/shared/errors.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { createOwnMask, createUpdate as updateRequest } from '@copal/shared/wire/admin.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import { isCallsUsedUp } from '../../calls/call-budget.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { inRandomOrder } from '../../runtime/random-order.ts'
import { insertDecision, SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { setMetricCount } from '../../storage/db/queries/metric-count-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { listDryRuns } from '../../storage/db/queries/trigger-queries.ts'
import { figure } from '../gate/gate-figures.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { askedWithin } from '../sampling/domain-counts.ts'
import { createOwnMaskUpdate } from '../updates/own-mask-request.ts'
import { beginUpdate, createUpdate, type UpdateCause } from '../updates/update-requests.ts'
import { findDueOwnMask } from './due-own-mask.ts'
import { gatherPlan, type PlanDeps } from './gather-plan.ts'
import { describeStart, planUpdate, type PlannedDomain } from './plan-update.ts'

/** The dependencies of the task. */
export type TriggerDeps = PlanDeps &
  Pick<
    Deps,
    | 'calls'
    | 'artifacts'
    | 'keyPepper'
    | 'nodeSecrets'
    | 'nodeFetch'
    | 'updateWorkflow'
    | 'telemetry'
    | 'waitUntil'
  >

/** Calls that a plan makes at most for each reservoir that it asks: two of it, and room for the rest and for the start of the update. */
const PLAN_CALLS = 4

/** Starts the update of each model that is due, or records what a dry run would have started. A task of the cron trigger. */
export async function runTriggers(deps: TriggerDeps): Promise<void> {
  for (const model of inRandomOrder(await listModels(deps.db))) {
    try {
      await runModel(deps, model)
    } catch (error) {
      if (isCallsUsedUp(error)) throw error
      console.error(`The triggers of model '${model.id}' failed; the next run tries again:`, error)
    }
  }
}

async function runModel(deps: TriggerDeps, model: ModelRow): Promise<void> {
  const policy = await findPolicy(deps, model.id)
  const waiting = policy.triggers.enabled ? await startDue(deps, model, policy) : 0
  await setMetricCount(deps.db, { metric: 'updatesDue', labels: [model.id], value: waiting })
}

/**
 * Starts the update of a model if one is due, or records it in a dry run.
 *
 * @returns the number of domains whose update could start by the policy, and did not
 */
async function startDue(deps: TriggerDeps, model: ModelRow, policy: AdaptationPolicy): Promise<number> {
  const maxAsked = askedWithin(deps.calls, PLAN_CALLS)
  const input = await gatherPlan(deps, model, policy, { always: false, maxAsked })
  const { start, next } = planUpdate(input)
  if (start.waitsFor !== undefined && start.waitsFor === input.obstacle) {
    const counted = await gatherPlan(deps, model, policy, { always: true, maxAsked: 0 })
    return planUpdate(counted).next.length
  }
  if (start.waitsFor !== undefined) return 0
  if (next.length === 0) {
    await seekOwnMask(deps, model, policy)
    return 0
  }
  // It has too few calls to ask all that it takes. At its turn a task has enough.
  const exact = new Set(input.domains.filter(({ isExact }) => isExact).map(({ domain }) => domain))
  if (!next.every(({ domain }) => exact.has(domain))) return next.length
  const domains = domainsIn(next)
  const cause = causeOf(policy, next)
  if (policy.triggers.dry_run) {
    await recordDryRun(deps, model, domains, cause)
    return 0
  }
  const request = updateRequest.parse({ model: model.id, domains })
  const isBegun = await begin(deps, model, () => createUpdate(deps, request, { ...cause, isChecked: true }))
  return isBegun ? 0 : next.length
}

/** Starts the update that makes a mask for one domain alone, if a domain may need one and no shared update is due. */
async function seekOwnMask(deps: TriggerDeps, model: ModelRow, policy: AdaptationPolicy): Promise<void> {
  const due = await findDueOwnMask(deps, model, policy)
  if (!due) return
  const { domain, reason, figure: cost } = due
  const cause: UpdateCause = { trigger: 'own_mask', reason, figures: [cost] }
  if (policy.triggers.dry_run) return recordDryRun(deps, model, [domain], cause)
  const request = createOwnMask.parse({ model: model.id })
  await begin(deps, model, () => createOwnMaskUpdate(deps, domain, request, cause))
}

/** Starts an update and its first step. @returns false if it cannot start now */
async function begin(
  deps: TriggerDeps,
  model: ModelRow,
  create: () => Promise<{ id: string }>,
): Promise<boolean> {
  try {
    const { id } = await create()
    await beginUpdate(deps, id)
    return true
  } catch (error) {
    // Another update was started or texts were deleted since the plan was made; the next plan knows.
    if (!(error instanceof AppError)) throw error
    console.error(`No update of '${model.id}' was started by its triggers: ${error.message}`)
    return false
  }
}

/** Records what would have started, once while the same domains are due. */
async function recordDryRun(
  deps: TriggerDeps,
  model: ModelRow,
  domains: readonly string[],
  { trigger, reason, figures }: UpdateCause,
): Promise<void> {
  const [last] = await listDryRuns(deps.db, model.id, 0, 1)
  const names = domains.toSorted()
  if (last && JSON.stringify(domainsOf(last.figures)) === JSON.stringify(names)) return
  await insertDecision(deps.db, {
    model: model.id,
    kind: 'trigger',
    verdict: 'dry_run',
    reason: `Would have started by ${trigger}: ${reason}`,
    figures,
    actor: SERVICE_ACTOR,
    createdAt: deps.nowMs(),
  })
}

function causeOf(policy: AdaptationPolicy, planned: readonly PlannedDomain[]): UpdateCause {
  return { ...describeStart(planned), figures: figuresOf(policy, planned) }
}

function domainsIn(planned: readonly PlannedDomain[]): string[] {
  return planned.map(({ domain }) => domain)
}

function domainsOf(figures: readonly DecisionFigure[]): string[] {
  return [...new Set(figures.flatMap(({ domain }) => domain ?? []))].toSorted()
}

/** Returns the figures that made the domains due, with the limits of the policy. */
function figuresOf({ triggers }: AdaptationPolicy, planned: readonly PlannedDomain[]): DecisionFigure[] {
  return planned.flatMap(({ domain, newSegments, gap, alerts }) => [
    figure('new segments', newSegments >= triggers.new_segments, {
      domain,
      value: newSegments,
      limit: triggers.new_segments,
    }),
    ...(gap === undefined
      ? []
      : [
          figure('scored gap', triggers.max_gap !== null && gap > triggers.max_gap, {
            domain,
            value: gap,
            limit: triggers.max_gap,
          }),
        ]),
    ...alerts.map(({ kind, reference, level }) =>
      figure(kind === 'gap_drift' ? 'gap, changed from' : 'dense loss, changed from', true, {
        domain,
        value: level,
        limit: reference,
      }),
    ),
  ])
}
