import type { Context } from 'hono'
import type { KeyedEnv } from '../../contracts/context.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { whyAborted } from '../../fleet/client/node-client.ts'
import { watchKey } from '../../keys/key-watch.ts'
import { createAlarms } from '../../runtime/alarms.ts'
import { linkAbort } from '../../runtime/linked-abort.ts'
import type { FoundResponse } from '../../contracts/response-cache-object.ts'

/**
 * Waits for the answer that another request of the tenant is having made, as long as somebody waits for it here.
 *
 * @returns undefined when this request is to have its own made
 * @throws AppError `client_closed_request`, or `invalid_api_key` when the key was revoked meanwhile
 */
export async function followLeader(
  c: Context<KeyedEnv>,
  cache: ReturnType<Deps['responseCache']>,
  name: string,
  maxAgeMs: number,
): Promise<FoundResponse | undefined> {
  const { requestId, keyWatch } = c.var
  const alarms = createAlarms()
  const gone = linkAbort(c.req.raw.signal)
  const watch = watchKey(keyWatch, alarms, () => gone.abort())
  const { promise: left, reject } = Promise.withResolvers<never>()
  left.catch(() => undefined)
  const leave = () => reject(watch.refusal() ?? whyAborted(gone.signal).error)
  if (gone.signal.aborted) leave()
  else gone.signal.addEventListener('abort', leave, { once: true })
  try {
    // The cache was reset, say: who waited there runs as if nobody had been before.
    const followed = cache.follow(name, maxAgeMs, requestId).catch(() => undefined)
    return await Promise.race([followed, left])
  } finally {
    watch.stop()
  }
}
