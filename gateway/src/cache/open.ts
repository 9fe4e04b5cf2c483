import type { Context } from 'hono'
import type { KeepWish } from '@copal/shared/wire/node-rpc.ts'
import type { KeyedEnv } from '../context.ts'
import type { Generation, TakeWhole } from '../inference/generate.ts'
import type { FoundAnswer } from './cache-store.ts'
import { answerKey, isRepeatable, requestKey } from './key.ts'
import { cacheWish } from './wish.ts'

/** A look-up that takes longer is given up: the node may be as fast. */
const LOOKUP_MS = 500

/** What the cache does for one request. */
interface OpenCache {
  /** The answer to give, if there is one. */
  found?: Response
  /** Keeps an answer, behind it; undefined where it is not kept, or by its node. */
  keep?: TakeWhole
  /** Asks the node to give a streamed answer once more, since nothing here sees it. */
  wish?: KeepWish
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
  const cache = deps.responseCache(key.tenant)
  const requested = await requestKey({ tenant: key.tenant, path, model: model.id, request })
  const { ttlMs } = wish
  const keep: TakeWhole = (made) => {
    const kept = cache.keep(answerKey(requested, made.maskVersion), made, ttlMs)
    deps.waitUntil(kept.catch((error: unknown) => console.error('An answer is not kept:', error)))
  }
  const missed: OpenCache = {
    status: 'miss',
    ...(request.stream ? { wish: { key: requested, ttlMs } } : { keep }),
  }
  if (!wish.use) return missed
  const look = async () => {
    const version = model.version ?? (await deps.fleet.versionFor(model.id, key.id))
    return version === undefined ? undefined : cache.find(answerKey(requested, version), ttlMs)
  }
  try {
    const found = await within(look())
    trace.span.setAttribute('copal.cache', found ? 'hit' : 'miss')
    return found ? { ...missed, found: give(c, domain, found) } : missed
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
    ...(contentType.startsWith('text/event-stream') ? { 'cache-control': 'no-cache' } : {}),
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
