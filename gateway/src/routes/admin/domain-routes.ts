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
import { rejectMethod } from '../../middleware/error-responses.ts'
import { readAdminBody } from './admin-body.ts'

/** An isolate has 128 MB for all of its requests, and a body is in memory three times: as bytes, as text and parsed. */
const MAX_IMPORT_BYTES = 4 * 1024 * 1024
/** Imported texts are split into pieces of about 1,000 tokens, so that they spread over pool and holdout like traffic. */
const MAX_PIECE_CHARACTERS = 4 * 1024
/** Maximum number of texts offered to a reservoir in one call. */
const MAX_TEXTS_PER_OFFER = 256
/** Key id of texts that an operator imported. */
const OPERATOR_KEY_ID = 'operator'

/** Creates the routes that list and delete domains, import texts and delete samples. */
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
      const { texts } = await readAdminBody(c, importTexts, MAX_IMPORT_BYTES)
      const atMs = deps.nowMs()
      await ensureDomains(deps.db, [domain], atMs)
      let pieces = 0
      let offers: OfferedSample[] = []
      // One text at a time, so that the redacted texts are never all in memory at once.
      for (const whole of texts) {
        for (const text of splitText(redact(whole), MAX_PIECE_CHARACTERS)) {
          offers.push({ requestId: `${requestId}-${pieces}`, keyId: OPERATOR_KEY_ID, text, atMs })
          pieces += 1
          if (offers.length < MAX_TEXTS_PER_OFFER) continue
          await deps.reservoir(domain).offer(offers)
          offers = []
        }
      }
      if (offers.length > 0) await deps.reservoir(domain).offer(offers)
      return c.json({ domain, texts: texts.length, pieces }, 201)
    })
    .all('/domains/:domain/texts', rejectMethod('POST'))
    .delete('/domains/:domain/samples', async (c) => {
      requireQueryParameters(c, ['key'])
      const { deps } = c.var
      const domain = await requireDomain(deps, c.req.param('domain'))
      const key = c.req.query('key')
      if (key === undefined) {
        return c.json({ domain, deleted: await deps.reservoir(domain).deleteTexts(), deleted_frozen: 0 })
      }
      const { sampled, frozen } = await deleteKeyTexts(deps, domain, key)
      return c.json({ domain, deleted: sampled, deleted_frozen: frozen })
    })
    .all('/domains/:domain/samples', rejectMethod('DELETE'))
    .delete('/domains/:domain', async (c) => {
      requireQueryParameters(c, [])
      const domain = await requireDomain(c.var.deps, c.req.param('domain'))
      await deleteDomain(c.var.deps, domain)
      return c.json({ domain, deleted: true })
    })
    .all('/domains/:domain', rejectMethod('DELETE'))
}

/** @throws AppError `not_found` for a domain that never had a text, so that a mistyped name is noticed */
async function requireDomain({ db }: Pick<Deps, 'db'>, name: string): Promise<string> {
  const domain = parseDomain(name, 'domain')
  if (await findDomain(db, domain)) return domain
  throw new AppError('not_found', `There is no domain '${domain}'. 'GET /admin/domains' lists them.`, {
    param: 'domain',
  })
}

/**
 * Rejects query parameters that the route does not understand: a mistyped filter would delete more than intended.
 *
 * @throws AppError `invalid_request` that names a query parameter which is unknown, empty or repeated
 */
function requireQueryParameters(c: Context<AppEnv>, known: readonly string[]): void {
  for (const [name, values] of Object.entries(c.req.queries())) {
    if (!known.includes(name)) {
      const expected =
        known.length > 0
          ? `The known query parameters are: ${known.join(', ')}.`
          : 'This path has no query parameters.'
      throw new AppError(
        'invalid_request',
        `Nothing was deleted: the query parameter '${name}' is unknown. ${expected}`,
        { param: name },
      )
    }
    if (values.length === 1 && values[0] !== '') continue
    throw new AppError(
      'invalid_request',
      `Nothing was deleted: the query parameter '${name}' must be given once and must not be empty.`,
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
