import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { importTexts, type DomainEntry } from '@copal/shared/wire/admin.ts'
import type { AppEnv } from '../../contracts/context.ts'
import { countCalibratedDatasets } from '../../storage/db/queries/dataset-queries.ts'
import {
  ensureDomains,
  findDomain,
  listDomains,
  type DomainRow,
} from '../../storage/db/queries/domain-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { parseDomain } from '../../adaptation/domains/domain-name.ts'
import { redact } from '../../adaptation/sampling/redact.ts'
import type { OfferedSample, ReservoirStats } from '../../contracts/reservoir-object.ts'
import { deleteDomain, deleteKeyTexts } from '../../adaptation/domains/domain-deletion.ts'
import { splitText } from '../../adaptation/sampling/split-text.ts'
import { rejectMethod } from '../../middleware/errors.ts'
import { readAdmin } from './admin-body.ts'

/** An isolate has 128 MB for all that it does at once, and a body is there as bytes, as text and as its parsed texts. */
const MAX_IMPORT_BYTES = 4 * 1024 * 1024
/** Imported texts are cut to about 1,000 tokens, so that they spread over the sample and the holdout like traffic. */
const PIECE_CHARACTERS = 4 * 1024
/** Texts offered to a reservoir in one call. */
const OFFER_TEXTS = 256
/** Stands for the key of texts that an operator brought. */
const OPERATOR_KEY = 'operator'

/** Domains and what is sampled of them. */
export function domainRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/domains', async (c) => {
      const { deps } = c.var
      const [domains, calibrated] = await Promise.all([
        listDomains(deps.db),
        countCalibratedDatasets(deps.db),
      ])
      const data = await Promise.all(
        domains.map(async (domain) =>
          domainEntry(domain, await deps.reservoir(domain.name).stats(), calibrated.get(domain.name) ?? 0),
        ),
      )
      return c.json({ data })
    })
    .all('/domains', rejectMethod('GET'))
    .post('/domains/:domain/texts', async (c) => {
      const { deps, requestId } = c.var
      const domain = parseDomain(c.req.param('domain'), 'domain')
      const { texts } = await readAdmin(c, importTexts, MAX_IMPORT_BYTES)
      const atMs = deps.nowMs()
      await ensureDomains(deps.db, [domain], atMs)
      let pieces = 0
      let offers: OfferedSample[] = []
      // Text by text, so that redacted ones are never there all at once.
      for (const whole of texts) {
        for (const text of splitText(redact(whole), PIECE_CHARACTERS)) {
          offers.push({ requestId: `${requestId}-${pieces}`, keyId: OPERATOR_KEY, text, atMs })
          pieces += 1
          if (offers.length < OFFER_TEXTS) continue
          await deps.reservoir(domain).offer(offers)
          offers = []
        }
      }
      if (offers.length > 0) await deps.reservoir(domain).offer(offers)
      return c.json({ domain, texts: texts.length, pieces }, 201)
    })
    .all('/domains/:domain/texts', rejectMethod('POST'))
    .delete('/domains/:domain/samples', async (c) => {
      requireParameters(c, ['key'])
      const { deps } = c.var
      const domain = await knownDomain(deps, c.req.param('domain'))
      const key = c.req.query('key')
      if (key === undefined) {
        return c.json({ domain, deleted: await deps.reservoir(domain).deleteTexts(), deleted_frozen: 0 })
      }
      const { sampled, frozen } = await deleteKeyTexts(deps, domain, key)
      return c.json({ domain, deleted: sampled, deleted_frozen: frozen })
    })
    .all('/domains/:domain/samples', rejectMethod('DELETE'))
    .delete('/domains/:domain', async (c) => {
      requireParameters(c, [])
      const domain = await knownDomain(c.var.deps, c.req.param('domain'))
      await deleteDomain(c.var.deps, domain)
      return c.json({ domain, deleted: true })
    })
    .all('/domains/:domain', rejectMethod('DELETE'))
}

/** @throws AppError `not_found` for a domain that never had a text: a name that was mistyped deletes nothing */
async function knownDomain({ db }: Pick<Deps, 'db'>, name: string): Promise<string> {
  const domain = parseDomain(name, 'domain')
  if (await findDomain(db, domain)) return domain
  throw new AppError('not_found', `There is no domain '${domain}'. 'GET /admin/domains' lists them.`, {
    param: 'domain',
  })
}

/**
 * What narrows a deletion must be understood, or more than was meant would be deleted.
 *
 * @throws AppError `invalid_request` that names a query parameter which is unknown, empty or there twice
 */
function requireParameters(c: Context<AppEnv>, known: readonly string[]): void {
  for (const [name, values] of Object.entries(c.req.queries())) {
    if (!known.includes(name)) {
      const expected = known.length > 0 ? `Known: ${known.join(', ')}.` : 'This path takes none.'
      throw new AppError(
        'invalid_request',
        `Unknown query parameter '${name}', so nothing was deleted. ${expected}`,
        { param: name },
      )
    }
    if (values.length === 1 && values[0] !== '') continue
    throw new AppError(
      'invalid_request',
      `The query parameter '${name}' must be there once and not be empty, so nothing was deleted.`,
      { param: name },
    )
  }
}

function domainEntry(domain: DomainRow, stats: ReservoirStats, calibratedDatasets: number): DomainEntry {
  const frozen = domain.holdoutSha256 !== null
  return {
    name: domain.name,
    samples: stats.samples,
    characters: stats.characters,
    seen: stats.seen,
    holdout_samples: frozen ? (domain.holdoutSamples ?? 0) : stats.holdoutSamples,
    holdout_frozen: frozen,
    calibrated_datasets: calibratedDatasets,
    last_sample_at: stats.lastSampleAtMs === null ? null : new Date(stats.lastSampleAtMs).toISOString(),
  }
}
