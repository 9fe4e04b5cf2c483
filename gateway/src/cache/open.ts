import type { Context } from 'hono'
import type { KeyedEnv } from '../context.ts'
import type { Generation, TakeWhole } from '../inference/generate.ts'
import type { FoundAnswer } from './cache-store.ts'
import { cacheKey, isRepeatable } from './key.ts'
import { cacheWish } from './wish.ts'

/** A look-up that takes longer is given up: the node may be as fast. */
const LOOKUP_MS = 500

/** What the cache does for one request. */
interface OpenCache {
  /** The answer to give, if there is one. */
  found?: Response
  /** Keeps an answer, behind it; undefined where it cannot be kept. */
  keep?: TakeWhole
  /** The `x-copal-cache` of an answer that a node makes. */
  status: 'miss' | 'bypass'
}

/**
 * Looks for an answer that is kept, if the request asks for that.
 *
 * Requests that would not get the same answer again are bypassed: they run, and nothing of them is kept. So are all while
 * the cache cannot be asked. The version that would answer now is the fleet's to tell, so an answer of another mask is not
 * found; the answer is kept under the version that gave it.
 *
 * @returns undefined when the request wants nothing of the cache
 * @throws AppError `invalid_request` that names the header
 */
export async function openCache(
  c: Context<KeyedEnv>,
  generation: Generation,
): Promise<OpenCache | undefined> {
  const wish = cacheWish(c)
  if (!wish) return undefined
  if (!isRepeatable(generation)) return { status: 'bypass' }
  const { deps, key, trace } = c.var
  const { path, request, model, domain } = generation
  const keyed = { tenant: key.tenant, path, model: model.id, request }
  const keep: TakeWhole = (made) => {
    const write = async () =>
      deps.responseCache(key.tenant).keep(await cacheKey(keyed, made.maskVersion), made, wish.ttlMs)
    deps.waitUntil(write().catch((error: unknown) => console.error('An answer is not kept:', error)))
  }
  if (!wish.use) return { status: 'miss', keep }
  const look = async () => {
    const version = model.version ?? (await deps.fleet.versionFor(model.id, key.id))
    if (version === undefined) return undefined
    return deps.responseCache(key.tenant).find(await cacheKey(keyed, version), wish.ttlMs)
  }
  try {
    const found = await within(look())
    trace.span.setAttribute('copal.cache', found ? 'hit' : 'miss')
    return found ? { status: 'miss', found: give(c, domain, found) } : { status: 'miss', keep }
  } catch (error) {
    console.error('The response cache cannot be asked:', error)
    return { status: 'bypass' }
  }
}

function give(
  c: Context<KeyedEnv>,
  domain: string,
  { body, contentType, maskVersion, nodeId, ageMs }: FoundAnswer,
): Response {
  return c.body(body, 200, {
    'content-type': contentType,
    'x-copal-cache': 'hit',
    age: String(Math.floor(ageMs / 1000)),
    'x-copal-mask': String(maskVersion),
    'x-copal-node': nodeId,
    'x-copal-domain': domain,
  })
}

async function within<T>(work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`no answer within ${LOOKUP_MS} ms`)), LOOKUP_MS)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
