import type { Context } from 'hono'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { abortError } from '../../fleet/client/node-client.ts'
import { watchKey } from '../../keys/key-watch.ts'
import { createAlarms } from '../../runtime/alarms.ts'
import { linkAbort } from '../../runtime/linked-abort.ts'
import type { FoundResponse } from '../../contracts/response-cache-object.ts'

/**
 * Waits for the response that another request of the tenant, the leader, is generating.
 *
 * @returns undefined when this request must generate its own response
 * @throws AppError `client_closed_request`, or `invalid_api_key` when the key was revoked meanwhile
 */
export async function followLeader(
  c: Context<KeyedEnv>,
  cache: ReturnType<Deps['responseCache']>,
  key: string,
  maxAgeMs: number,
): Promise<FoundResponse | undefined> {
  const { requestId, keyWatch } = c.var
  const alarms = createAlarms()
  const abort = linkAbort(c.req.raw.signal)
  const watch = watchKey(keyWatch, alarms, () => abort.abort())
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  aborted.catch(() => undefined)
  const leave = () => reject(watch.error() ?? abortError(abort.signal).error)
  if (abort.signal.aborted) leave()
  else abort.signal.addEventListener('abort', leave, { once: true })
  try {
    // If the call fails, for example because the cache object was reset, the request runs as if it had no leader.
    const followed = cache.awaitLeader(key, maxAgeMs, requestId).catch(() => undefined)
    return await Promise.race([followed, aborted])
  } finally {
    watch.stop()
  }
}
