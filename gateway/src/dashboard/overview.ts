import type { DomainSummary, OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { alertEntry } from '../adaptation/drift/alerts/alert-entry.ts'
import { maskEntry } from '../adaptation/masks/mask-entry.ts'
import { findOperatorModel } from '../adaptation/models/find-operator-model.ts'
import { findPolicy } from '../adaptation/policy/find-policy.ts'
import { canaryReport } from '../adaptation/trials/trial-report.ts'
import { updateEntry } from '../adaptation/updates/update-entry.ts'
import type { Deps } from '../contracts/bindings.ts'
import type { NodeView } from '../contracts/node-view.ts'
import { hasConverged, nodeEntry } from '../fleet/client/node-entry.ts'
import { VERSION } from '../runtime/version.ts'
import { listAlerts } from '../storage/db/queries/alert-queries.ts'
import { findActivation, listRecentDecisions } from '../storage/db/queries/decision-queries.ts'
import { findOwners } from '../storage/db/queries/domain-queries.ts'
import { listJobStates } from '../storage/db/queries/job-queries.ts'
import { findMask } from '../storage/db/queries/mask-queries.ts'
import { listModels, type ModelRow } from '../storage/db/queries/model-queries.ts'
import { listCurrentUpdates } from '../storage/db/queries/update-queries.ts'
import { trialsInForce } from '../storage/db/trials-in-force.ts'
import { recentTraffic } from '../usage/series/recent-traffic.ts'
import { serviceHealth } from './service-health.ts'
import { summariseDomains } from './summarise-domains.ts'

const MAX_DECISIONS = 20
const MAX_ALERTS = 50
/** Domains that the overview lists; its health is that of all. */
const MAX_DOMAINS = 50

type OverviewDeps = Pick<Deps, 'db' | 'fleet' | 'nowMs' | 'adaptationPreset'>

/**
 * Gathers what the overview of the dashboard shows of a model. It costs the same however many requests there ever were: traffic
 * and domains are read from roll-ups.
 *
 * @param modelId by default the first of the models
 * @param summarise summarises the domains
 * @throws AppError `model_not_found`, `no_node_available` when no model is known
 */
export async function overviewReport(
  deps: OverviewDeps,
  modelId: string | undefined,
  summarise: typeof summariseDomains = summariseDomains,
): Promise<OverviewReport> {
  const { db } = deps
  const models = await listModels(db)
  const wanted = modelId ?? models[0]?.id
  // It throws, and its message lists the models.
  const model = models.find(({ id }) => id === wanted) ?? (await findOperatorModel(db, modelId))
  const { id, activeVersion } = model
  const snapshot = deps.fleet.snapshot()
  const [{ nodes: all }, alerts, mask, activation, traffic, decisions, updates, canary, policy] =
    await Promise.all([
      snapshot,
      listAlerts(db, { model: id, active: true, limit: MAX_ALERTS }),
      findMask(db, id, activeVersion),
      findActivation(db, model),
      recentTraffic(deps, id),
      listRecentDecisions(db, id, MAX_DECISIONS),
      currentUpdates(deps, model),
      trialsInForce(model).canary ? canaryReport(deps, model, snapshot) : null,
      findPolicy(deps, id),
    ])
  const drifting = new Set(alerts.flatMap(({ domain }) => domain ?? []))
  const domains = await summarise(deps, model, drifting)
  const nodes = all.filter((node) => node.model === id)
  const activeSinceMs = activation?.createdAt ?? mask?.promotedAt ?? null
  const judged = {
    at: new Date(deps.nowMs()).toISOString(),
    model: {
      id,
      parameters: model.parameters,
      active_version: activeVersion,
      previous_version: model.previousVersion,
      active_since: activeSinceMs === null ? null : new Date(activeSinceMs).toISOString(),
      mask: mask ? maskEntry(model, mask) : null,
      weight_bytes: bytesOf(nodes, activeVersion),
      dense_bytes: maximum(nodes.map(({ denseBytes }) => denseBytes)),
      converged: hasConverged(nodes, model),
    },
    nodes: nodes.map(nodeEntry),
    traffic: {
      requests_per_second: traffic.requestsPerSecond,
      tokens_per_second: traffic.tokensPerSecond,
      running: sum(nodes, ({ running }) => running),
      waiting: sum(nodes, ({ waiting }) => waiting),
      first_token_ms_p95: traffic.firstTokenMsP95,
      failed_share: traffic.failedShare,
      tokens_trend: traffic.tokensTrend,
    },
    domains,
    alerts: alerts.map(alertEntry),
    updates,
    decisions: decisions.map(({ decision, domains: names }) => ({
      kind: decision.kind,
      verdict: decision.verdict,
      reason: decision.reason,
      mask_version: decision.maskVersion,
      update: decision.updateId,
      domains: names ?? [],
      actor: decision.actor,
      created_at: new Date(decision.createdAt).toISOString(),
    })),
  }
  return {
    version: VERSION,
    ...judged,
    domains: domains.slice(0, MAX_DOMAINS),
    domain_count: domains.length,
    unlisted_domains: await countUnlisted(deps, domains.slice(MAX_DOMAINS)),
    health: serviceHealth(judged, model.domainVersions, policy.gate.max_dense_ratio),
    models: models.map((each) => each.id),
    canary,
  }
}

/** Counts the domains beyond those that the overview lists which are not registered, so that no other list has them. */
async function countUnlisted({ db }: Pick<Deps, 'db'>, others: readonly DomainSummary[]): Promise<number> {
  if (others.length === 0) return 0
  const registered = await findOwners(
    db,
    others.map(({ name }) => name),
  )
  return others.filter(({ name }) => !registered.has(name)).length
}

async function currentUpdates({ db }: Pick<Deps, 'db'>, model: ModelRow) {
  const rows = await listCurrentUpdates(db, model.id)
  const jobs = await listJobStates(
    db,
    rows.map(({ id }) => id),
  )
  const byUpdate = Map.groupBy(jobs, ({ updateId }) => updateId)
  return rows.map((update) => updateEntry(update, byUpdate.get(update.id) ?? [], { model }))
}

/** Returns the bytes of a weight set on the node where it takes most; null if no node reports them. */
function bytesOf(nodes: readonly NodeView[], version: number): number | null {
  const sets = nodes.flatMap(({ weightSets }) => weightSets)
  return maximum(sets.map((set) => (set.version === version ? set.bytes : undefined)))
}

function maximum(values: readonly (number | undefined)[]): number | null {
  const known = values.filter((value) => value !== undefined)
  return known.length > 0 ? Math.max(...known) : null
}

function sum(nodes: readonly NodeView[], of: (node: NodeView) => number): number {
  return nodes.reduce((total, node) => total + of(node), 0)
}
