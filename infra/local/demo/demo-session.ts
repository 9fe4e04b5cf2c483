import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { createdKey, revokedKey, type CreatedKey, type CreateKey } from '@copal/shared/wire/admin-keys.ts'
import { policyReport, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { createApiClient, listOf, type ApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { readConnection } from '../../../gpu-node/cli/api/connection.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { interruptionOfProcess } from '../../../gpu-node/src/platform/interruption.ts'

/** The folder of the checkout. */
export const ROOT = join(import.meta.dirname, '..', '..', '..')

/** A canary that a person has the patience to watch: of a deployment it takes at least ten minutes. */
export const SHORT_CANARY = {
  enabled: true,
  share: 0.5,
  shadow_share: 1,
  min_minutes: 0.5,
  max_minutes: 1.5,
  min_scored_tokens: 2_000,
}
/** A canary begins when the watch over the mask before it has ended; a deployment watches for an hour. */
export const SHORT_WATCH = { soak_minutes: 0.5 }

/** The time that the calls of a clean-up may take. */
const CLEAN_UP_MS = 10_000

/** Aborted when a person ends the demo. */
export const interrupted = interruptionOfProcess()

/** The session of the demo, as the command line has one. */
export const session = createSession({
  env: process.env,
  cwd: process.cwd(),
  root: ROOT,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signal: interrupted,
})

/** Prints a line. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Runs `work` under a changed policy, and sets the former one again, also when a person ends the demo. */
export async function withPolicy(changes: PolicyOverrides, work: () => Promise<void>): Promise<void> {
  const admin = session.client()
  const { overrides: found } = await admin.admin('GET', '/policy', policyReport)
  const overrides = withoutLeftChanges(found, changes)
  await admin.admin('PUT', '/policy', policyReport, { ...overrides, ...changes })
  try {
    await work()
  } finally {
    await cleanUpClient()
      .admin('PUT', '/policy', policyReport, overrides)
      .catch(() => print("The demo's policy could not be taken back: look at 'npx copal policy show'."))
  }
}

/**
 * Runs `work`, and if it is interrupted or fails cancels the updates that have started meanwhile and still run, because the service
 * would go on with them: with a canary for as long as the policy says.
 */
export async function withoutLeftUpdates(work: () => Promise<void>): Promise<void> {
  const before = new Set((await runningUpdates(session.client())).map(({ id }) => id))
  try {
    await work()
  } catch (error) {
    await cancelUpdates(before).catch(() =>
      print(
        "An update of the demo may still run. See 'npx copal updates'; end it with 'npx copal cancel UPDATE'.",
      ),
    )
    throw error
  }
}

async function cancelUpdates(except: ReadonlySet<string>): Promise<void> {
  const client = cleanUpClient()
  for (const { id, domains, state } of await runningUpdates(client)) {
    if (except.has(id)) continue
    const what = `update ${id} of ${domains.join(', ')}, which was ${state === 'canary' ? 'in canary' : state}`
    await client
      .admin('POST', `/updates/${id}/cancel`, updateEntry)
      .then(() => print(`Cancelled ${what}.`))
      .catch(() => print(`The demo's ${what}, could not be cancelled. Run: npx copal cancel ${id}`))
  }
}

async function runningUpdates(client: ApiClient): Promise<UpdateEntry[]> {
  const { data } = await client.admin('GET', '/updates', listOf(updateEntry))
  return data.filter(({ finished_at: finishedAt }) => finishedAt === null)
}

/**
 * Returns what was set before. Where all parts that this demo sets have its values already, an earlier one was killed and left
 * them. A single part may be a person's choice.
 */
function withoutLeftChanges(overrides: PolicyOverrides, changes: PolicyOverrides): PolicyOverrides {
  const parts = Object.keys(changes) as (keyof PolicyOverrides)[]
  const isLeft = parts.length > 1 && parts.every((part) => isDeepStrictEqual(overrides[part], changes[part]))
  if (!isLeft) return overrides
  print(`An earlier demo was killed and left its policy (${parts.join(', ')}), which ends with this demo.`)
  return Object.fromEntries(
    Object.entries(overrides).filter(([part]) => !parts.includes(part as keyof PolicyOverrides)),
  )
}

/** Runs `work` with new keys, whose texts may be sampled, and revokes them, also when a person ends the demo. */
export async function withKeys(
  count: number,
  work: (keys: readonly CreatedKey[]) => Promise<void>,
): Promise<void> {
  const keys: CreatedKey[] = []
  try {
    while (keys.length < count) keys.push(await createKey(keys.length + 1))
    await work(keys)
  } finally {
    const client = cleanUpClient()
    for (const { id, name } of keys)
      await client
        .admin('DELETE', `/keys/${id}`, revokedKey)
        .catch(() => print(`The key '${name}' could not be revoked. Run: npx copal keys revoke ${id}`))
  }
}

function createKey(number: number): Promise<CreatedKey> {
  const request: CreateKey = { name: `demo ${number}`, sampling: 'always', discover_domains: true }
  return session.client().admin('POST', '/keys', createdKey, request)
}

/** Creates a client for clean-ups: the calls of the session's client end with the demo. */
function cleanUpClient(): ApiClient {
  return createApiClient(readConnection(session.terminal), AbortSignal.timeout(CLEAN_UP_MS))
}
