import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { ResponseListener, Generation } from '../../contracts/generation.ts'
import type { FoundResponse } from '../../contracts/response-cache-object.ts'
import { followLeader } from './follow-leader.ts'
import { responseKey, isRepeatable, requestKey } from './cache-key.ts'
import { readCacheDirective } from './cache-directive.ts'

/** What the cache does for one request. */
interface OpenCache {
  /** The answer to give, if there is one. */
  found?: Response
  /** Keeps an answer, behind it, and tells who waits for it what became of it. */
  listener?: ResponseListener
  /** Asks the node to give a streamed answer once more, since nothing here sees it. */
  wish?: CacheTarget
  /** The `x-copal-cache` of an answer that a node makes. */
  status: 'miss' | 'bypass'
}

/**
 * Looks for an answer that is kept, if the request asks for that, or waits for one that is being made for the same request.
 *
 * Requests that would not get the same answer again are bypassed: they run, and nothing of them is kept. So are all while
 * the cache cannot be asked. The version that would answer now is the fleet's to tell, so an answer of another mask is not
 * found; the answer is kept under the version that gave it.
 *
 * @returns undefined when the request wants nothing of the cache
 * @throws AppError `invalid_request` that names the header, or like {@link followLeader}
 */
export async function openCache(
  c: Context<KeyedEnv>,
  generation: Generation,
): Promise<OpenCache | undefined> {
  const wish = readCacheDirective(c)
  if (!wish) return undefined
  if (!isRepeatable(generation)) return { status: 'bypass' }
  const { deps, key, trace, requestId } = c.var
  const { path, request, model, domain } = generation
  const cache = deps.responseCache(key.tenant)
  const requested = await requestKey({ tenant: key.tenant, path, model: model.id, request })
  const { ttlMs } = wish
  const behind = (work: Promise<unknown>, what: string) =>
    deps.waitUntil(work.catch((error: unknown) => console.error(what, error)))
  /** The key that others may wait for this request under. */
  let name: string | undefined
  let gaveUp = false
  const leave = (how: 'whole' | 'failed' | 'left') => {
    if (name !== undefined) behind(cache.leave(name, requestId, how), 'Who waits for an answer is not told:')
  }
  let isTold = false
  const keep: ResponseListener['take'] = (made) => {
    const kept = responseKey(requested, made.maskVersion)
    isTold = kept === name
    behind(cache.keep(kept, made, ttlMs), 'An answer is not kept:')
  }
  const ended: ResponseListener['ended'] = (how) => {
    // A streamed answer comes from its node; another that was not kept is nobody else's.
    if (!isTold) leave(how === 'whole' && !request.stream ? 'failed' : how)
  }
  const missed: OpenCache = {
    status: 'miss',
    listener: { ...(request.stream ? {} : { take: keep }), ended },
    ...(request.stream ? { wish: { key: requested, ttlMs } } : {}),
  }
  if (!wish.use) return missed
  const look = async () => {
    const version = model.version ?? (await deps.fleet.versionFor(model.id, key.id))
    // One that is not waited for any more must not lead: others would wait for it in vain.
    if (version === undefined || gaveUp) return undefined
    name = responseKey(requested, version)
    // Of a request whose client is gone, no more may run than what is begun here.
    c.req.raw.signal.addEventListener('abort', () => leave('left'), { once: true })
    return cache.look(name, ttlMs, requestId)
  }
  let found: FoundResponse | undefined
  try {
    const looked = await within(deps.policy.cacheLookupMs, look())
    found = looked?.found
    if (looked && !looked.found && !looked.makes && name !== undefined)
      found = await followLeader(c, cache, name, ttlMs)
  } catch (error) {
    gaveUp = true
    const isGone = error instanceof AppError
    leave(isGone ? 'left' : 'failed')
    if (isGone) throw error
    console.error('The response cache cannot be asked:', error)
    return { status: 'bypass' }
  }
  trace.span.setAttribute('copal.cache', found ? 'hit' : 'miss')
  return found ? { ...missed, found: give(c, domain, found) } : missed
}

function give(
  c: Context<KeyedEnv>,
  domain: string,
  { body, contentType, maskVersion, nodeId, ageMs }: FoundResponse,
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

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
