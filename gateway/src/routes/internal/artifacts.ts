import { Hono, type Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import { readMaskHeader } from '@copal/shared/mask/header.ts'
import { maskInvalid } from '@copal/shared/mask/invalid.ts'
import { sha256Hex } from '@copal/shared/wire/node-rpc.ts'
import { SIGNATURE_HEADER, verify } from '@copal/shared/wire/signature.ts'
import type { AppEnv } from '../../context.ts'
import { refuseMethod } from '../../middleware/errors.ts'
import { datasetKey, maskKey } from '../../updates/datasets.ts'

/**
 * Largest mask file: 4.3 billion weights. A mask is streamed into R2 and never held in memory, so this is a
 * bound on abuse only. Cloudflare itself cuts request bodies at 100 MB (500 MB on enterprise plans).
 */
const MAX_MASK_BYTES = 512 * 1024 * 1024
/** More than the header of any mask takes: about 150 bytes a linear. */
const MAX_HEADER_BYTES = 4 * 1024 * 1024
/** What a hash names never changes. */
const CACHE_CONTROL = 'private, max-age=31536000, immutable'

/** Masks and datasets by their SHA-256, for nodes: mounted at `/internal`, every call signed. */
export function artifactRoutes(): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .get('/masks/:sha256', (c) => send(c, maskKey(hashOf(c)), 'mask', 'application/octet-stream'))
    .put('/masks/:sha256', async (c) => {
      const hash = hashOf(c)
      await requireSigned(c, hash)
      await storeMask(c, hash)
      return c.json({ sha256: hash }, 201)
    })
    .all('/masks/:sha256', refuseMethod('GET', 'PUT'))
    .get('/datasets/:sha256', (c) =>
      send(c, datasetKey(hashOf(c)), 'dataset', 'application/x-ndjson; charset=utf-8'),
    )
    .all('/datasets/:sha256', refuseMethod('GET'))
}

async function send(c: Context<AppEnv>, key: string, what: string, contentType: string): Promise<Response> {
  const hash = hashOf(c)
  await requireSigned(c, EMPTY_SHA256)
  const headers = { etag: `"${hash}"`, 'cache-control': CACHE_CONTROL }
  if (c.req.header('if-none-match') === headers.etag) return new Response(null, { status: 304, headers })
  const object = await c.var.deps.artifacts.get(key)
  if (!object) throw new AppError('not_found', `There is no ${what} ${hash}.`)
  return new Response(object.body, {
    headers: { ...headers, 'content-type': contentType, 'content-length': String(object.size) },
  })
}

/** Streams the body into R2, which checks the hash, and looks at the header then. */
async function storeMask(c: Context<AppEnv>, hash: string): Promise<void> {
  const { artifacts } = c.var.deps
  const key = maskKey(hash)
  const sizeBytes = Number(c.req.header('content-length') ?? Number.NaN)
  if (!Number.isSafeInteger(sizeBytes) || !c.req.raw.body) {
    throw new AppError('invalid_request', "A mask must be sent with a 'content-length'.")
  }
  if (sizeBytes > MAX_MASK_BYTES) {
    throw new AppError(
      'body_too_large',
      `A mask file has at most ${MAX_MASK_BYTES / 1024 / 1024} MiB, this one has ${sizeBytes} bytes.`,
    )
  }
  if (sizeBytes === 0) throw new AppError('mask_invalid', 'Not a usable mask: it is empty.')
  if (await artifacts.head(key)) {
    await c.req.raw.body.cancel()
    return
  }
  try {
    await artifacts.put(key, c.req.raw.body, { sha256: hash })
  } catch (cause) {
    if (await artifacts.head(key)) return
    throw new AppError(
      'mask_invalid',
      `The bytes sent do not have the SHA-256 ${hash}, or did not arrive whole. Send the mask again.`,
      { cause },
    )
  }
  try {
    await checkHeader(artifacts, key)
  } catch (error) {
    await artifacts.delete(key)
    throw error
  }
}

/** @throws AppError `mask_invalid` when the object is no mask file */
async function checkHeader(artifacts: R2Bucket, key: string): Promise<void> {
  const object = await artifacts.get(key, { range: { offset: 0, length: MAX_HEADER_BYTES } })
  if (!object) throw new AppError('internal_error', `Object ${key} is gone right after it was stored.`)
  const prefix = new Uint8Array(await object.arrayBuffer())
  const { fileBytes } = readMaskHeader(prefix)
  if (fileBytes !== object.size) {
    throw maskInvalid(`its header describes ${fileBytes} bytes, it has ${object.size}`)
  }
}

const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

/** Verifies the signature against the hash that the body claims: what is stored is checked against the same hash. */
async function requireSigned(c: Context<AppEnv>, bodySha256: string): Promise<void> {
  const { deps } = c.var
  const { pathname, search } = new URL(c.req.url)
  const request = { method: c.req.method, path: pathname + search, bodySha256 }
  await verify(deps.nodeSecret, request, c.req.header(SIGNATURE_HEADER), deps.nowMs())
}

function hashOf(c: Context<AppEnv>): string {
  const result = sha256Hex.safeParse(c.req.param('sha256'))
  if (result.success) return result.data
  throw new AppError('invalid_request', 'The path must end in a SHA-256, 64 lower-case hexadecimal digits.', {
    param: 'sha256',
  })
}
