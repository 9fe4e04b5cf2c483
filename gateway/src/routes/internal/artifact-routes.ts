import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { joinMaskParts } from '@copal/shared/wire/mask-parts.ts'
import {
  MAX_STATISTICS_MANIFEST_BYTES,
  STATISTICS_MANIFEST,
  statisticsManifest,
} from '@copal/shared/wire/statistics-manifest.ts'
import { sha256Hex } from '@copal/shared/wire/identifiers.ts'
import type { StoredArtifact, StoredFile } from '@copal/shared/wire/stored-file.ts'
import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import { NodeEvents } from '../../audit/node-events.ts'
import type { AppEnv } from '../../contracts/context.ts'
import type { Database } from '../../contracts/database.ts'
import { missingDataset, missingMask } from '../../storage/artifacts/missing-files.ts'
import { storeMaskFile } from '../../storage/artifacts/mask-files.ts'
import { joinMaskFile, storeMaskPart } from '../../storage/artifacts/mask-parts.ts'
import { decodeBody } from '../../runtime/body-reader.ts'
import { auditNodeCalls } from '../../middleware/audit-node-calls.ts'
import { readSignedBody, requireFirstUse, requireSignature } from '../../middleware/signed-calls.ts'
import { datasetKey, maskKey, statisticsKey } from '../../storage/artifacts/artifact-keys.ts'
import { completeStatistics, storeStatisticsPiece } from '../../storage/artifacts/statistics-files.ts'

/** Artifacts are named by their hash, so they never change. */
const CACHE_CONTROL = 'private, max-age=31536000, immutable'

/**
 * Creates the routes by which nodes exchange masks, datasets and statistics; mount them at `/internal`. Masks, datasets and
 * pieces of statistics are named by their SHA-256.
 *
 * Every call is signed. An upload is signed over the hash in its path, against which the stored bytes are checked, and its
 * signature is accepted once.
 */
export function artifactRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .use(auditNodeCalls(new NodeEvents()))
    .get('/masks/:sha256', (c) =>
      sendArtifact(c, maskKey(pathHash(c)), missingMask, 'application/octet-stream'),
    )
    .put('/masks/:sha256', async (c) => {
      const hash = pathHash(c)
      await requireSignature(c, hash)
      await requireFirstUse(c)
      await storeMaskFile(c.var.deps, hash, c.req.raw)
      return c.json<StoredFile>({ sha256: hash }, 201)
    })
    .post('/masks/:sha256', async (c) => {
      const hash = pathHash(c)
      const { body } = await readSignedBody(c, MAX_LIST_BYTES)
      await requireFirstUse(c)
      const { parts } = validate(joinMaskParts, parseJson(decodeBody(body)))
      await joinMaskFile(c.var.deps, hash, parts)
      return c.json<StoredFile>({ sha256: hash }, 201)
    })
    .put('/masks/:sha256/parts/:part', async (c) => {
      const part = pathHash(c, 'part')
      await requireSignature(c, part)
      await requireFirstUse(c)
      await storeMaskPart(c.var.deps.artifacts, pathHash(c), part, c.req.raw)
      return c.json<StoredFile>({ sha256: part }, 201)
    })
    .get('/datasets/:sha256', (c) =>
      sendArtifact(c, datasetKey(pathHash(c)), missingDataset, 'application/x-ndjson; charset=utf-8'),
    )
    .put(`/statistics/:artifact/${STATISTICS_MANIFEST}`, async (c) => {
      const artifact = pathHash(c, 'artifact')
      const { body } = await readSignedBody(c, MAX_STATISTICS_MANIFEST_BYTES)
      await requireFirstUse(c)
      const manifest = validate(statisticsManifest, parseJson(decodeBody(body)))
      if (manifest.artifact !== artifact)
        throw new AppError('invalid_request', `The manifest is of ${manifest.artifact}.`, {
          param: 'artifact',
        })
      await completeStatistics(c.var.deps, manifest, body)
      return c.json<StoredArtifact>({ artifact }, 201)
    })
    .get(`/statistics/:artifact/${STATISTICS_MANIFEST}`, (c) =>
      sendStatistics(c, STATISTICS_MANIFEST, 'application/json'),
    )
    .put('/statistics/:artifact/:piece', async (c) => {
      const piece = pathHash(c, 'piece')
      await requireSignature(c, piece)
      await requireFirstUse(c)
      await storeStatisticsPiece(c.var.deps.artifacts, pathHash(c, 'artifact'), piece, c.req.raw)
      return c.json<StoredFile>({ sha256: piece }, 201)
    })
    .get('/statistics/:artifact/:piece', (c) =>
      sendStatistics(c, pathHash(c, 'piece'), 'application/octet-stream'),
    )
}

async function sendArtifact(
  c: Context<AppEnv>,
  key: string,
  missing: (db: Database, sha256: string) => Promise<AppError>,
  contentType: string,
): Promise<Response> {
  const hash = pathHash(c)
  await requireSignature(c, EMPTY_SHA256)
  const headers = { etag: `"${hash}"`, 'cache-control': CACHE_CONTROL }
  if (c.req.header('if-none-match') === headers.etag) return new Response(null, { status: 304, headers })
  const object = await c.var.deps.artifacts.get(key)
  if (!object) throw await missing(c.var.deps.db, hash)
  return new Response(object.body, {
    headers: { ...headers, 'content-type': contentType, 'content-length': String(object.size) },
  })
}

async function sendStatistics(c: Context<AppEnv>, file: string, contentType: string): Promise<Response> {
  const artifact = pathHash(c, 'artifact')
  await requireSignature(c, EMPTY_SHA256)
  const object = await c.var.deps.artifacts.get(statisticsKey(artifact, file))
  if (!object) throw new AppError('not_found', `There is no ${file} of the statistics ${artifact}.`)
  return new Response(object.body, {
    headers: { 'content-type': contentType, 'content-length': String(object.size) },
  })
}

/** Enough for the hashes of the maximum number of parts. */
const MAX_LIST_BYTES = 16 * 1024

const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

function pathHash(c: Context<AppEnv>, param: 'sha256' | 'part' | 'artifact' | 'piece' = 'sha256'): string {
  const result = sha256Hex.safeParse(c.req.param(param))
  if (result.success) return result.data
  throw new AppError(
    'invalid_request',
    'The path must contain a SHA-256, 64 lower-case hexadecimal digits.',
    {
      param,
    },
  )
}
