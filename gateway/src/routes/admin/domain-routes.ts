import { Hono } from 'hono'
import { importTexts, type DeletedDomain } from '@copal/shared/wire/admin-domains.ts'
import type { SampleEntry } from '@copal/shared/wire/admin-samples.ts'
import type { ActorEnv } from '../../contracts/context.ts'
import { ensureDomains } from '../../storage/db/queries/domain-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { parseCountedDomain, parseDomain } from '../../adaptation/domains/domain-name.ts'
import { findOperatorModel } from '../../adaptation/models/find-operator-model.ts'
import { conversationId, importedSides } from '../../adaptation/sampling/conversation.ts'
import { recogniseTexts } from '../../adaptation/redaction/recognise-texts.ts'
import { redact } from '../../adaptation/redaction/redact.ts'
import type { KeptText, OfferedSample, Side } from '../../contracts/reservoir-object.ts'
import {
  deleteAllSamples,
  deleteDomain,
  deleteTexts,
  requireNotBeingDeleted,
} from '../../adaptation/domains/domain-deletion.ts'
import { OPERATOR_KEY_ID } from '../../adaptation/sampling/operator-key.ts'
import { MAX_PIECE_CHARACTERS } from '../../adaptation/sampling/sample-placement.ts'
import { splitText } from '../../adaptation/sampling/split-text.ts'
import { summariseDomain } from '../../dashboard/summarise-domains.ts'
import { actorId } from '../../keys/actor-id.ts'
import { readAdminBody } from './admin-body.ts'
import { requireQueryParameters } from './query-parameters.ts'
import { requireDomain } from './require-domain.ts'

/** An isolate has 128 MB for all of its requests, and a body is in memory three times: as bytes, as text and parsed. */
const MAX_IMPORT_BYTES = 4 * 1024 * 1024
/** Maximum number of texts offered to a reservoir in one call. */
const MAX_TEXTS_PER_OFFER = 256

/** Maximum number of kept texts that are listed. */
const MAX_LISTED = 20

/** Creates the routes that delete domains, summarise their traffic, import texts, and list and delete samples. */
export function domainRoutes(): Hono<ActorEnv> {
  return new Hono<ActorEnv>()
    .post('/domains/:domain/texts', async (c) => {
      const { deps, requestId } = c.var
      const domain = parseDomain(c.req.param('domain'), 'domain')
      const { texts } = await readAdminBody(c, importTexts, MAX_IMPORT_BYTES)
      await requireNotBeingDeleted(deps, domain)
      const atMs = deps.nowMs()
      await ensureDomains(deps.db, [domain], atMs)
      let pieces = 0
      let waiting: string[] = []
      const offer = async () => {
        const sides = await importedSides(deps.keyPepper, waiting)
        const offers = waiting.map((text, index) =>
          offerPiece(deps, requestId, text, sides[index] ?? 'pool', atMs),
        )
        waiting = []
        await deps.reservoir(domain).offer(await Promise.all(offers))
      }
      // One text at a time, so that the redacted texts are never all in memory at once.
      for (const whole of texts) {
        // Each piece is a conversation of its own: pieces of one text are on both sides, or else an operator who imports one
        // long text would have no holdout. They do not overlap.
        const parts = splitText(redact(whole), MAX_PIECE_CHARACTERS)
        for (const text of await recogniseTexts(deps.recogniser, parts)) {
          waiting.push(text)
          pieces += 1
          if (waiting.length === MAX_TEXTS_PER_OFFER) await offer()
        }
      }
      if (waiting.length > 0) await offer()
      return c.json({ domain, texts: texts.length, pieces }, 201)
    })
    .delete('/domains/:domain/samples', async (c) => {
      requireQueryParameters(c, ['key', 'tenant', 'request'])
      const { deps } = c.var
      const domain = await requireDomain(deps, c.req.param('domain'))
      const { key: keyId, tenant, request: sourceRequest } = c.req.query()
      if ((keyId ?? tenant ?? sourceRequest) === undefined) {
        return c.json({
          domain,
          deleted: await deleteAllSamples(deps, domain),
          deleted_frozen: 0,
          pending: false,
        })
      }
      const filter = { keyId, tenant, requestId: sourceRequest }
      const { sampled, frozen, isUnfinished } = await deleteTexts(deps, domain, filter)
      return c.json({ domain, deleted: sampled, deleted_frozen: frozen, pending: isUnfinished })
    })
    .get('/domains/:domain/samples', async (c) => {
      requireQueryParameters(c, [])
      const { deps } = c.var
      const domain = await requireDomain(deps, c.req.param('domain'))
      const texts = await deps.reservoir(domain).newest(MAX_LISTED, deps.previewCharacters)
      return c.json({ data: texts.map(sampleEntry) })
    })
    .get('/domains/:domain/traffic', async (c) => {
      requireQueryParameters(c, ['model'])
      const { deps } = c.var
      const domain = parseCountedDomain(c.req.param('domain'), 'domain')
      const model = await findOperatorModel(deps.db, c.req.query('model'))
      return c.json(await summariseDomain(deps, model, domain))
    })
    .delete('/domains/:domain', async (c) => {
      requireQueryParameters(c, [])
      const domain = await requireDomain(c.var.deps, c.req.param('domain'))
      const deleted = await deleteDomain(c.var.deps, domain, actorId(c.var.deps, c.var.actor))
      return c.json({ domain, deleted } satisfies DeletedDomain, deleted ? 200 : 202)
    })
}

async function offerPiece(
  { keyPepper }: Pick<Deps, 'keyPepper'>,
  requestId: string,
  text: string,
  side: Side,
  atMs: number,
): Promise<OfferedSample> {
  return {
    requestId,
    keyId: OPERATOR_KEY_ID,
    tenant: '',
    conversation: await conversationId(keyPepper, OPERATOR_KEY_ID, text),
    consentVersion: 0,
    side,
    text,
    atMs,
  }
}

function sampleEntry({
  id,
  keyId,
  tenant,
  side,
  isTaken,
  characters,
  preview,
  lastSeenAtMs,
}: KeptText): SampleEntry {
  return {
    id,
    key: keyId,
    tenant,
    side,
    taken: isTaken,
    characters,
    preview: preview.toWellFormed(),
    last_seen_at: lastSeenAtMs === null ? null : new Date(lastSeenAtMs).toISOString(),
  }
}
