import type { TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { listJobStates } from '../../storage/db/queries/job-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { listRunningUpdates } from '../../storage/db/queries/update-queries.ts'
import { findPolicy } from '../policy/find-policy.ts'
import { nextOccurrence } from '../policy/schedule.ts'
import { updateEntry } from '../updates/update-entry.ts'
import { gatherPlan, type PlanDeps } from './gather-plan.ts'
import { planUpdate, type PlannedDomain } from './plan-update.ts'

/** Reports what is due, what runs, and when the next update may start. */
export async function triggersReport(
  deps: PlanDeps & Pick<Deps, 'db'>,
  model: ModelRow,
): Promise<TriggersReport> {
  const policy = await findPolicy(deps, model.id)
  const { enabled, dry_run: dryRun, schedule } = policy.triggers
  const input = await gatherPlan(deps, model, policy, { always: true })
  const { start, domains, next } = planUpdate(input)
  const nextMs = schedule === null ? undefined : nextOccurrence(schedule, input.nowMs)
  return {
    model: model.id,
    enabled,
    dry_run: dryRun,
    running: await runningUpdate(deps, model),
    waits_for: start.waitsFor ?? null,
    next_start_at: timeOf(start.atMs),
    next_schedule_at: timeOf(nextMs),
    started_today: start.startedToday,
    next_domains: next.map(({ domain }) => domain),
    node_share: policy.effort.node_share,
    domains: domains.map(domainEntry),
  }
}

async function runningUpdate(deps: Pick<Deps, 'db'>, model: ModelRow): Promise<TriggersReport['running']> {
  const [running] = await listRunningUpdates(deps.db, model.id)
  if (!running) return null
  const entry = updateEntry(running, await listJobStates(deps.db, [running.id]), { model })
  const { id, domains, state, progress, message, trigger, trigger_reason, job } = entry
  return { id, domains, state, progress, message, trigger, trigger_reason, job }
}

function domainEntry(planned: PlannedDomain): TriggersReport['domains'][number] {
  const { domain, newSegments, gap, trafficShare, gain, due, reason, missingHeldOut, failures, retryAtMs } =
    planned
  return {
    domain,
    new_segments: newSegments,
    gap: gap ?? null,
    traffic_share: trafficShare,
    gain,
    due: due ?? null,
    reason,
    missing_holdout_tokens: missingHeldOut,
    failures,
    not_before: timeOf(retryAtMs),
  }
}

function timeOf(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString()
}
