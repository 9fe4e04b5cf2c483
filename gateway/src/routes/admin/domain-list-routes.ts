import { Hono } from 'hono'
import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { estimateTokens } from '../../adaptation/holdouts/holdout-rules.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import type { ReservoirStats } from '../../contracts/reservoir-object.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import { rejectMethod } from '../../middleware/error-responses.ts'
import { countCalibratedDatasets } from '../../storage/db/queries/batch-queries.ts'
import { listDomains, type DomainRow } from '../../storage/db/queries/domain-queries.ts'
import { listLatestHoldouts, type HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'

/** Creates the route that lists domains: all for operators and observers, those that it owns for a tenant. */
export function domainListRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .get('/domains', async (c) => {
      const { deps, actor } = c.var
      const [domains, calibrated, holdouts, models] = await Promise.all([
        listDomains(deps.db),
        countCalibratedDatasets(deps.db),
        listLatestHoldouts(deps.db),
        listModels(deps.db),
      ])
      const owner = tenantOf(actor, undefined)
      const visible = domains.filter((domain) => owner === undefined || domain.owner === owner)
      const model = c.req.query('model') ?? (models.length === 1 ? models[0]?.id : undefined)
      const data = await Promise.all(
        visible.map(async (domain) =>
          domainEntry(
            domain,
            await deps.reservoir(domain.name).stats(model),
            calibrated.get(domain.name) ?? 0,
            holdouts.find((each) => each.domain === domain.name),
            models.find(({ id }) => id === model)?.domainVersions.get(domain.name) ?? null,
          ),
        ),
      )
      return c.json({ data })
    })
    .all('/domains', rejectMethod('GET'))
}

function domainEntry(
  { name, owner }: Pick<DomainRow, 'name' | 'owner'>,
  stats: ReservoirStats,
  calibratedDatasets: number,
  holdout: HoldoutRow | undefined,
  ownMask: number | null,
): DomainEntry {
  return {
    name,
    samples: stats.samples,
    characters: stats.characters,
    new_samples: stats.newSamples,
    seen: stats.seen,
    holdout_samples: holdout?.samples ?? stats.holdoutSamples,
    holdout_tokens: estimateTokens(holdout?.characters ?? stats.holdoutCharacters),
    holdout_frozen: holdout !== undefined,
    holdout_version: holdout?.version ?? null,
    owner,
    own_mask: ownMask,
    review_samples: stats.reviewSamples,
    calibrated_datasets: calibratedDatasets,
    last_sample_at: stats.lastSampleAtMs === null ? null : new Date(stats.lastSampleAtMs).toISOString(),
  }
}
