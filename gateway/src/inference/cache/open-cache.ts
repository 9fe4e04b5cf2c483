import type { Context } from 'hono'
import { AppError } from '@copal/shared/errors.ts'
import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { ResponseListener, Generation } from '../../contracts/generation.ts'
import type { CacheLookup, FoundResponse } from '../../contracts/response-cache-object.ts'
import { conversationKey } from '../../fleet/client/conversation-key.ts'
import { waitAtMost } from '../../runtime/wait-at-most.ts'
import { followLeader } from './follow-leader.ts'
import { responseKey, isRepeatable, requestKey } from './cache-key.ts'
import { readCacheDirective } from './cache-directive.ts'

/** The outcome of a cache look-up for one request. */
interface OpenCache {
  /** The response to send, if one was found. */
  found?: Response
  /** Stores the response in the background, and tells the requests that wait for it how it ended. */
  listener?: ResponseListener
  /** Asks the node to report a streamed response, which the gateway does not read while relaying it. */
  cacheTarget?: CacheTarget
  /** The header `x-copal-cache` of a response that a node generates. */
  status: 'miss' | 'bypass'
}

/**
 * Looks up a cached response if the request asks for one, or waits for the response that an equal request is generating.
 *
 * Requests that are not repeatable bypass the cache: they run and their responses are not cached. All requests bypass it
 * while the cache does not respond. The look-up uses the mask version that the fleet would choose now, so a response of
 * another mask is not found; a response is stored under the version that generated it.
 *
 * @returns undefined when the request has no cache directive
 * @throws AppError `invalid_request` that names the header, or like {@link followLeader}
 */
export async function openCache(
  c: Context<KeyedEnv>,
  generation: Generation,
): Promise<OpenCache | undefined> {
  const directive = readCacheDirective(c)
  if (!directive) return undefined
  if (!isRepeatable(generation)) return { status: 'bypass' }
  const { deps, key, trace, requestId } = c.var
  const { path, request, model, domain, opening } = generation
  const cache = deps.responseCache(key.tenant)
  const cacheKey = await requestKey({ tenant: key.tenant, path, model: model.id, request })
  const { ttlMs } = directive
  const runInBackground = (work: Promise<unknown>, failure: string) =>
    deps.waitUntil(work.catch((error: unknown) => console.error(failure, error)))
  /** The key under which other requests may wait for this one. */
  let flightKey: string | undefined
  let timedOut = false
  const leave = (how: 'whole' | 'failed' | 'left') => {
    if (flightKey === undefined) return
    runInBackground(
      cache.leave(flightKey, requestId, how),
      'The response cache was not told how a request ended; requests that wait for it run by themselves after a timeout:',
    )
  }
  let followersServed = false
  const store: ResponseListener['complete'] = (response) => {
    const storedKey = responseKey(cacheKey, response.maskVersion)
    followersServed = storedKey === flightKey
    runInBackground(cache.store(storedKey, response, ttlMs), 'A response could not be cached:')
  }
  const ended: ResponseListener['ended'] = (how) => {
    // A streamed response is reported by its node. Another one that was not stored serves no other request.
    if (!followersServed) leave(how === 'whole' && !request.stream ? 'failed' : how)
  }
  const missed: OpenCache = {
    status: 'miss',
    listener: { ...(request.stream ? {} : { complete: store }), ended },
    ...(request.stream ? { cacheTarget: { key: cacheKey, ttlMs } } : {}),
  }
  if (!directive.mayUseCached) return missed
  const lookUp = async (): Promise<CacheLookup> => {
    const conversation = conversationKey(key.id, opening)
    const version = model.version ?? (await deps.fleet.versionFor({ model: model.id, conversation, domain }))
    // After the timeout this request must not become the leader: others would wait for it in vain.
    if (version === undefined || timedOut) return { leads: false }
    flightKey = responseKey(cacheKey, version)
    return cache.lookUp(flightKey, ttlMs, requestId)
  }
  let found: FoundResponse | undefined
  try {
    const lookup = await waitAtMost(lookUp(), deps.policy.cacheLookupMs)
    if (!lookup) throw new Error(`no response within ${deps.policy.cacheLookupMs} ms`)
    found = lookup.found
    if (!lookup.found && !lookup.leads && flightKey !== undefined)
      found = await followLeader(c, cache, flightKey, ttlMs)
  } catch (error) {
    timedOut = true
    const isAborted = error instanceof AppError
    leave(isAborted ? 'left' : 'failed')
    if (isAborted) throw error
    console.error('The response cache did not respond, so the request runs without it:', error)
    return { status: 'bypass' }
  }
  trace.span.setAttribute('copal.cache', found ? 'hit' : 'miss')
  return found ? { ...missed, found: respondCached(c, domain, found) } : missed
}

function respondCached(
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
