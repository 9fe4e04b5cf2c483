import { setTimeout as sleep } from 'node:timers/promises'
import { createdKey, keyEntry, type KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import { modelList, type ModelEntry } from '@copal/shared/wire/model-list.ts'
import { createApiClient, listOf, readJson } from '../../../gpu-node/cli/api/api-client.ts'
import type { Home } from './home.ts'

const POLL_MS = 100
/** Generous, because the machine may be busy. */
const RESPONSE_TIMEOUT_MS = 5000
/** The name of the API key that a local service creates. */
const LOCAL_KEY_NAME = 'local'

/**
 * Waits until the gateway is healthy.
 *
 * @param onFailure called after each check that fails; what it throws ends the wait
 */
export async function untilGatewayHealthy(
  origin: string,
  signal: AbortSignal,
  onFailure: () => void = () => undefined,
): Promise<void> {
  while (!(await isHealthy(origin))) {
    onFailure()
    await sleep(POLL_MS, undefined, { signal })
  }
}

/** Returns whether the gateway answers its health check, in a time for a busy machine. */
export async function isHealthy(origin: string): Promise<boolean> {
  try {
    const response = await fetch(`${origin}/health`, { signal: AbortSignal.timeout(RESPONSE_TIMEOUT_MS) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}

/** The API key of a local service. */
export interface LocalKey {
  apiKey: string
  /** Other keys of the same name, which this service does not use: an earlier start or a person has created them. */
  others: Pick<KeyEntry, 'id' | 'created_at'>[]
}

/**
 * Creates the API key at the first start, and again when the database no longer has it or the home has lost it. Keys that earlier
 * starts have created are only named: they cannot be told from those of a person who chose the same name.
 */
export async function ensureApiKey(
  origin: string,
  home: Pick<Home, 'secrets' | 'saveApiKey'>,
  signal: AbortSignal,
): Promise<LocalKey> {
  const { apiKey, adminKey } = home.secrets
  const isKnown =
    apiKey !== undefined && (await untilResponse((limited) => isAccepted(origin, apiKey, limited), signal))
  if (isKnown) {
    home.saveApiKey(apiKey, origin)
    return { apiKey, others: [] }
  }
  const created = await untilResponse(
    (limited) =>
      createApiClient({ origin, apiKey: undefined, adminKey }, limited).admin('POST', '/keys', createdKey, {
        name: LOCAL_KEY_NAME,
        sampling: 'opt_in',
      }),
    signal,
  )
  home.saveApiKey(created.key, origin)
  // Only for a hint: without the list the service starts too.
  const { data } = await untilResponse(
    (limited) =>
      createApiClient({ origin, apiKey: undefined, adminKey }, limited).admin(
        'GET',
        '/keys',
        listOf(keyEntry),
      ),
    signal,
  ).catch(() => {
    signal.throwIfAborted()
    return { data: [] }
  })
  const others = data.filter(({ id, name }) => name === LOCAL_KEY_NAME && id !== created.id)
  return { apiKey: created.key, others }
}

/**
 * Repeats a call until the gateway responds to it: one that starts may accept a call and never respond. Each call gets twice
 * the time of the one before, for a gateway that is slow.
 */
async function untilResponse<T>(call: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let timeoutMs = RESPONSE_TIMEOUT_MS; ; timeoutMs *= 2) {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
    try {
      return await call(limited)
    } catch (error) {
      signal.throwIfAborted()
      if (!limited.aborted) throw error
    }
  }
}

/** Waits until a node has registered and returns the model that it serves. */
export async function untilModelServed(
  origin: string,
  apiKey: string,
  signal: AbortSignal,
): Promise<ModelEntry> {
  for (;;) {
    const served = await untilResponse((limited) => findServedModel(origin, apiKey, limited), signal)
    if (served) return served
    await sleep(POLL_MS, undefined, { signal })
  }
}

async function findServedModel(
  origin: string,
  apiKey: string,
  signal: AbortSignal,
): Promise<ModelEntry | undefined> {
  const client = createApiClient({ origin, apiKey, adminKey: undefined }, signal)
  const { data } = await readJson(await client.api('GET', '/models'), modelList)
  return data.find((model) => model.copal.nodes > 0)
}

async function isAccepted(origin: string, apiKey: string, signal: AbortSignal): Promise<boolean> {
  const response = await fetch(`${origin}/v1/models`, {
    headers: { authorization: `Bearer ${apiKey}` },
    signal,
  })
  await response.body?.cancel()
  return response.status !== 401
}
