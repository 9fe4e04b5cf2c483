import { join } from 'node:path'
import { createdKey, revokedKey, type CreatedKey, type CreateKey } from '@copal/shared/wire/admin-keys.ts'
import { policyReport, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { createApiClient, type ApiClient } from '../../../gpu-node/cli/api/api-client.ts'
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
  const { overrides } = await admin.admin('GET', '/policy', policyReport)
  await admin.admin('PUT', '/policy', policyReport, { ...overrides, ...changes })
  try {
    await work()
  } finally {
    await cleanUpClient()
      .admin('PUT', '/policy', policyReport, overrides)
      .catch(() => print("The demo's policy could not be taken back: look at 'npx copal policy show'."))
  }
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
