import { join } from 'node:path'
import { updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { createdKey, revokedKey, type CreatedKey, type CreateKey } from '@copal/shared/wire/admin-keys.ts'
import type { PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { createApiClient, listOf, type ApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { readConnection } from '../../../gpu-node/cli/api/connection.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'
import { interruptionOfProcess } from '../../../gpu-node/src/platform/interruption.ts'
import { changePolicy, undoChange, undoLeftChanges, type PolicyOwner } from '../service/demo-policy.ts'

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

/**
 * Runs `work` under a changed policy, and sets the former one again, also when a person ends the demo. If the demo is killed, the
 * next one or the next start of the service does.
 */
export async function withPolicy(changes: PolicyOverrides, work: () => Promise<void>): Promise<void> {
  const owner = policyOwner(session.client())
  await undoLeftChanges(owner, print)
  const change = await changePolicy(owner, changes)
  try {
    await work()
  } finally {
    await undoChange(policyOwner(cleanUpClient()), change).catch(() =>
      print("The demo's policy could not be taken back: look at 'npx copal policy show'."),
    )
  }
}

function policyOwner(client: ApiClient): PolicyOwner {
  const { env, root } = session.terminal
  const homeDir = env.COPAL_HOME || join(root, '.copal')
  return { client, adminKey: readConnection(session.terminal).adminKey ?? '', homeDir }
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
      .catch((error: unknown) => print(`The demo's ${what}, could not be cancelled: ${messageOf(error)}`))
  }
}

async function runningUpdates(client: ApiClient): Promise<UpdateEntry[]> {
  const { data } = await client.admin('GET', '/updates', listOf(updateEntry))
  return data.filter(({ finished_at: finishedAt }) => finishedAt === null)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
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
