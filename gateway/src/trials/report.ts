import type { CanaryReport, TrialEntry, TrialNodes, VersionTraffic } from '@copal/shared/wire/trials.ts'
import { listKeys } from '../db/queries/keys.ts'
import type { ModelRow } from '../db/queries/models.ts'
import { sumVersionsSince } from '../db/queries/receipts.ts'
import type { Deps } from '../deps.ts'
import type { FleetSnapshot } from '../fleet/state.ts'
import { isChosen, trialsInForce, type StoredTrial } from './trial.ts'

/** How a canary does beside the active mask, since it began. */
export async function canaryReport(deps: Pick<Deps, 'db' | 'fleet'>, model: ModelRow): Promise<CanaryReport> {
  const { canary } = trialsInForce(model)
  const head = { model: model.id, active_version: model.activeVersion }
  if (!canary) return { ...head, canary: null, keys: null, nodes: null, versions: [] }
  const [keys, sums, snapshot] = await Promise.all([
    listKeys(deps.db),
    sumVersionsSince(deps.db, model.id, canary.sinceMs),
    deps.fleet.snapshot(),
  ])
  const able = keys.filter(({ allowedModels }) => allowedModels?.includes(model.id) ?? true)
  return {
    ...head,
    canary: trialEntry(canary),
    keys: {
      chosen: able.filter(({ id }) => isChosen('canary', canary, model.id, id)).length,
      all: able.length,
    },
    nodes: trialNodes(snapshot, model.id, canary.version),
    versions: [model.activeVersion, canary.version].map((version): VersionTraffic => {
      const sum = sums.find(({ maskVersion }) => maskVersion === version)
      const perToken = (nats: number | null | undefined) =>
        sum?.driftTokens && nats != null ? nats / sum.driftTokens : null
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

/** A trial as the admin API shows it. */
export function trialEntry({ version, share, sinceMs }: StoredTrial): TrialEntry {
  return { mask_version: version, share, since: new Date(sinceMs).toISOString() }
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
      set?.state === 'failed' ? [{ node, message: set.error ?? 'It cannot be loaded.' }] : [],
    ),
  }
}
