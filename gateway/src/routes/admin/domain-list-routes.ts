import { Hono } from 'hono'
import { domainsQuery, type DomainEntry, type DomainPage } from '@copal/shared/wire/admin-domains.ts'
import { validate } from '@copal/shared/wire/validate.ts'
import { estimateTokens } from '../../adaptation/holdouts/holdout-rules.ts'
import { domainStats, type DomainStats } from '../../adaptation/sampling/domain-counts.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { tenantOf } from '../../keys/key-grants.ts'
import { countCalibratedDatasets } from '../../storage/db/queries/batch-queries.ts'
import { listDomains, type DomainRow } from '../../storage/db/queries/domain-queries.ts'
import { listLatestHoldouts, type HoldoutRow } from '../../storage/db/queries/holdout-queries.ts'
import { listModels } from '../../storage/db/queries/model-queries.ts'

/** Creates the route that lists domains: all for operators and observers, those that it owns for a tenant. */
export function domainListRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>().get('/domains', async (c) => {
    const { deps, actor } = c.var
    const { limit, after = '', ...query } = validate(domainsQuery, c.req.query())
    const [domains, calibrated, latest, models] = await Promise.all([
      listDomains(deps.db),
      countCalibratedDatasets(deps.db),
      listLatestHoldouts(deps.db),
      listModels(deps.db),
    ])
    const owner = tenantOf(actor, undefined)
    const visible = domains.filter((domain) => owner === undefined || domain.owner === owner)
    const left = visible.filter(({ name }) => name > after)
    const page = left.slice(0, limit)
    const model = query.model ?? (models.length === 1 ? models[0]?.id : undefined)
    const names = page.map(({ name }) => name)
    const stats = await domainStats(deps, names, { model })
    const holdouts = new Map(latest.map((holdout) => [holdout.domain, holdout]))
    const ownMasks = models.find(({ id }) => id === model)?.domainVersions
    const data = page.flatMap((domain) => {
      const ofDomain = stats.get(domain.name)
      if (!ofDomain) return []
      return domainEntry(
        domain,
        ofDomain,
        calibrated.get(domain.name) ?? 0,
        holdouts.get(domain.name),
        ownMasks?.get(domain.name) ?? null,
      )
    })
    const next_after = page.length < left.length ? (page.at(-1)?.name ?? null) : null
    return c.json({ data, next_after } satisfies DomainPage)
  })
}

function domainEntry(
  { name, owner }: Pick<DomainRow, 'name' | 'owner'>,
  stats: DomainStats,
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
    last_sample_at: timeOf(stats.lastSampleAtMs),
    ...(stats.countedAtMs === undefined ? {} : { counted_at: timeOf(stats.countedAtMs) }),
  }
}

function timeOf(ms: number | null): string | null {
  return ms === null ? null : new Date(ms).toISOString()
}
