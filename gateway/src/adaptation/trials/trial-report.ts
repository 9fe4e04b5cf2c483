import type {
  CanaryReport,
  ShadowMeans,
  ShadowReport,
  TrialEntry,
  TrialNodes,
  WatchEntry,
  VersionTraffic,
} from '@copal/shared/wire/admin-trials.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { sumVersionsSince } from '../../storage/db/queries/period-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { FleetSnapshot } from '../../contracts/node-view.ts'
import { trialsInForce } from '../../storage/db/trials-in-force.ts'
import type { StoredTrial } from '../../contracts/trial.ts'
import { sumShadowScores } from '../../storage/db/queries/shadow-score-queries.ts'

/**
 * Compares a canary with the active mask on the traffic since it began.
 *
 * @param known the nodes of the fleet, if the caller has asked for them already
 */
export async function canaryReport(
  deps: Pick<Deps, 'db' | 'fleet' | 'nowMs'>,
  model: ModelRow,
  known?: Promise<FleetSnapshot>,
): Promise<CanaryReport> {
  const { canary } = trialsInForce(model)
  const head = { model: model.id, active_version: model.activeVersion }
  if (!canary) return { ...head, canary: null, nodes: null, versions: [] }
  const [sums, snapshot] = await Promise.all([
    sumVersionsSince(deps.db, model.id, { fromMs: canary.sinceMs, nowMs: deps.nowMs() }),
    known ?? deps.fleet.snapshot(),
  ])
  return {
    ...head,
    canary: trialEntry(canary),
    nodes: trialNodes(snapshot, model.id, canary.version),
    versions: [model.activeVersion, canary.version].map((version): VersionTraffic => {
      const sum = sums.find(({ maskVersion }) => maskVersion === version)
      const perToken = (nats: number | undefined) =>
        sum?.driftTokens && nats !== undefined ? nats / sum.driftTokens : null
      return {
        mask_version: version,
        requests: sum?.requests ?? 0,
        failed: sum?.failed ?? 0,
        prompt_tokens: sum?.promptTokens ?? 0,
        completion_tokens: sum?.completionTokens ?? 0,
        time_to_first_token_ms: sum?.timeToFirstTokenMs ?? null,
        total_ms: sum?.totalMs ?? null,
        scored_tokens: sum?.driftTokens ?? 0,
        nll_masked: perToken(sum?.nllMasked),
        nll_dense: perToken(sum?.nllDense),
      }
    }),
  }
}

/** Compares the loss under a shadow with the loss under the active mask, since the shadow began. */
export async function shadowReport(deps: Pick<Deps, 'db' | 'fleet'>, model: ModelRow): Promise<ShadowReport> {
  const { shadow } = trialsInForce(model)
  const head = { model: model.id, active_version: model.activeVersion }
  if (!shadow) return { ...head, shadow: null, nodes: null, domains: [] }
  const [sums, snapshot] = await Promise.all([sumShadowScores(deps.db, [model]), deps.fleet.snapshot()])
  const means = (tokens: number, nll: number, nllShadow: number): ShadowMeans => ({
    tokens,
    nll_active: tokens > 0 ? nll / tokens : null,
    nll_shadow: tokens > 0 ? nllShadow / tokens : null,
  })
  return {
    ...head,
    shadow: trialEntry(shadow),
    nodes: trialNodes(snapshot, model.id, shadow.version),
    domains: sums.map((sum) => ({
      domain: sum.domain,
      requests: sum.requests,
      prompt: means(sum.promptTokens, sum.promptNll, sum.promptNllShadow),
      answer: means(sum.answerTokens, sum.answerNll, sum.answerNllShadow),
    })),
  }
}

/** Describes a trial for the admin API. */
export function trialEntry({ version, share, sinceMs, updateId, evidence }: StoredTrial): TrialEntry {
  return {
    mask_version: version,
    share,
    since: new Date(sinceMs).toISOString(),
    update_id: updateId ?? null,
    evidence: evidence ?? null,
  }
}

/** Describes the watch of a model for the admin API; null without one. */
export function watchEntry({ activeVersion, watch }: ModelRow): WatchEntry | null {
  if (watch?.version !== activeVersion) return null
  const { version, beside, updateId, sinceMs, untilMs, evidence } = watch
  return {
    mask_version: version,
    beside_version: beside,
    update_id: updateId,
    since: new Date(sinceMs).toISOString(),
    until: new Date(untilMs).toISOString(),
    evidence: evidence ?? null,
  }
}

function trialNodes({ nodes }: FleetSnapshot, model: string, version: number): TrialNodes {
  const alive = nodes.filter((node) => node.model === model && node.alive && !node.draining)
  const sets = alive.map(({ id, weightSets }) => ({
    node: id,
    set: weightSets.find((set) => set.version === version),
  }))
  return {
    ready: sets.filter(({ set }) => set?.state === 'ready').length,
    alive: alive.length,
    errors: sets.flatMap(({ node, set }) =>
      set?.state === 'failed'
        ? [
            {
              node,
              message: set.error ?? 'The mask cannot be loaded; the node gives no reason. See its log.',
            },
          ]
        : [],
    ),
  }
}
