import { AppError } from '@copal/shared/errors.ts'
import type { DecisionFigure } from '@copal/shared/wire/admin-decisions.ts'
import { createUpdate as updateRequest } from '@copal/shared/wire/admin.ts'
import type { AdaptationPolicy } from '@copal/shared/wire/admin-policy.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { insertDecision, SERVICE_ACTOR } from '../../storage/db/queries/decision-queries.ts'
import { listModels, type ModelRow } from '../../storage/db/queries/model-queries.ts'
import { listDryRuns } from '../../storage/db/queries/trigger-queries.ts'
import { figure } from '../gate/gate-figures.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { beginUpdate, createUpdate } from '../updates/update-requests.ts'
import { automaticDemand, gatherPlan, type PlanDeps } from './gather-plan.ts'
import { describeStart, planUpdate, type PlannedDomain } from './plan-update.ts'

/** The dependencies of the task. */
export type TriggerDeps = PlanDeps & Pick<Deps, 'artifacts' | 'keyPepper' | 'updateWorkflow'>

/** Starts the update of each model that is due, or records what a dry run would have started. A task of the cron trigger. */
export async function runTriggers(deps: TriggerDeps): Promise<void> {
  for (const model of await listModels(deps.db)) {
    try {
      await runModel(deps, model)
    } catch (error) {
      console.error(`The triggers of model '${model.id}' failed; the next run tries again:`, error)
    }
  }
}

async function runModel(deps: TriggerDeps, model: ModelRow): Promise<void> {
  const policy = await findPolicy(deps, model.id)
  if (!policy.triggers.enabled) return
  const plan = planUpdate(await gatherPlan(deps, model, policy, { always: false }))
  if (plan.start.waitsFor !== undefined || plan.next.length === 0) return
  if (policy.triggers.dry_run) await recordDryRun(deps, model, policy, plan.next)
  else await start(deps, model, policy, plan.next)
}

async function start(
  deps: TriggerDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
  planned: readonly PlannedDomain[],
): Promise<void> {
  const { trigger, reason } = describeStart(planned)
  const { samples, length } = automaticDemand(model)
  const request = updateRequest.parse({
    model: model.id,
    domains: planned.map(({ domain }) => domain),
    samples,
    length,
  })
  try {
    const { id } = await createUpdate(deps, request, { trigger, reason, figures: figuresOf(policy, planned) })
    await beginUpdate(deps, id)
  } catch (error) {
    // Another update was started or texts were deleted since the plan was made; the next plan knows.
    if (!(error instanceof AppError)) throw error
    console.error(`No update of '${model.id}' was started by its triggers: ${error.message}`)
  }
}

/** Records what would have started, once while the same domains are due. */
async function recordDryRun(
  deps: TriggerDeps,
  model: ModelRow,
  policy: AdaptationPolicy,
  planned: readonly PlannedDomain[],
): Promise<void> {
  const [last] = await listDryRuns(deps.db, model.id, 0, 1)
  const names = planned.map(({ domain }) => domain).toSorted()
  if (last && JSON.stringify(domainsOf(last.figures)) === JSON.stringify(names)) return
  const { trigger, reason } = describeStart(planned)
  await insertDecision(deps.db, {
    model: model.id,
    kind: 'trigger',
    verdict: 'dry_run',
    reason: `Would have started by ${trigger}: ${reason}`,
    figures: figuresOf(policy, planned),
    actor: SERVICE_ACTOR,
    createdAt: deps.nowMs(),
  })
}

function domainsOf(figures: readonly DecisionFigure[]): string[] {
  return [...new Set(figures.flatMap(({ domain }) => domain ?? []))].toSorted()
}

/** What made the domains due, with the limits of the policy. */
function figuresOf({ triggers }: AdaptationPolicy, planned: readonly PlannedDomain[]): DecisionFigure[] {
  return planned.flatMap(({ domain, newSegments, gap }) => [
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
  ])
}
