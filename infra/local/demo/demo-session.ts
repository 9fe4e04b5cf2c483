import { join } from 'node:path'
import { policyReport, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { createApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { readConnection } from '../../../gpu-node/cli/api/connection.ts'
import { createSession } from '../../../gpu-node/cli/api/session.ts'

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

/** The time that setting the former policy again may take. */
const RESTORE_MS = 10_000

const interruption = new AbortController()
process.once('SIGINT', () => interruption.abort())
process.once('SIGTERM', () => interruption.abort())

/** Aborted when a person ends the demo. */
export const interrupted = interruption.signal

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
    // Not by the session's client, whose calls end with the demo.
    const restoring = createApiClient(readConnection(session.terminal), AbortSignal.timeout(RESTORE_MS))
    await restoring
      .admin('PUT', '/policy', policyReport, overrides)
      .catch(() => print("The demo's policy could not be taken back: look at 'npx copal policy show'."))
  }
}
