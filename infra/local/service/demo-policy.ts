/**
 * Changes of the adaptation policy that demos have made and not taken back yet. They are in a file of the home, so that those of a
 * demo that was killed can be taken back later.
 */
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { policyOverrides, policyReport, type PolicyOverrides } from '@copal/shared/wire/admin-policy.ts'
import { z } from 'zod'
import type { ApiClient } from '../../../gpu-node/cli/api/api-client.ts'
import { retryConflicts } from '../../../gpu-node/cli/api/retry-conflicts.ts'
import { isAlive, startTicks } from '../../../gpu-node/src/platform/process-identity.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'

const FILE = 'demo-policy.json'

const policyChange = z.object({
  id: z.string(),
  /** A hash of the gateway's admin key, because its address may change. */
  gateway: z.string(),
  model: z.string(),
  /** The demo's process, and its start, which distinguishes it from a later one with the same pid. */
  pid: z.number(),
  startTicks: z.string().optional(),
  /** The former values of the parts that it has set; those that had none are missing. */
  former: policyOverrides,
  set: policyOverrides,
})
type PolicyChange = z.output<typeof policyChange>

/** A gateway and the home that has the file of changes. */
export interface PolicyOwner {
  client: ApiClient
  adminKey: string
  homeDir: string
}

/**
 * Sets parts of the policy, after their former values are on disk.
 *
 * @returns the change, for {@link undoChange}
 */
export async function changePolicy(
  { client, adminKey, homeDir }: PolicyOwner,
  set: PolicyOverrides,
): Promise<PolicyChange> {
  const { model, overrides } = await client.admin('GET', '/policy', policyReport)
  const former = Object.fromEntries(Object.entries(overrides).filter(([part]) => part in set))
  const demo = { pid: process.pid, startTicks: startTicks(process.pid) }
  const change: PolicyChange = { id: randomUUID(), gateway: hashOf(adminKey), model, ...demo, former, set }
  writeChanges(homeDir, [...readChanges(homeDir), change])
  await client.admin('PUT', '/policy', policyReport, { ...overrides, ...set, model })
  return change
}

/** Sets the former values again of the parts that still have the values of a change. Other values are a person's. */
export async function undoChange({ client, homeDir }: PolicyOwner, change: PolicyChange): Promise<void> {
  await retryConflicts(() => setFormer(client, change))
  const others = readChanges(homeDir).filter((other) => other.id !== change.id)
  writeChanges(homeDir, others)
}

async function setFormer(client: ApiClient, { model, former, set }: PolicyChange): Promise<void> {
  const path = `/policy?${new URLSearchParams({ model }).toString()}`
  const { revision, overrides } = await client.admin('GET', path, policyReport)
  const left = partsOf(set).filter((part) => isDeepStrictEqual(overrides[part], set[part]))
  if (left.length > 0) {
    const kept = Object.entries(overrides).filter(([part]) => !left.some((name) => name === part))
    const restored = Object.entries(former).filter(([part]) => left.some((name) => name === part))
    const body = { ...Object.fromEntries([...kept, ...restored]), model, revision }
    await client.admin('PUT', '/policy', policyReport, body)
  }
}

/** Takes back the changes of demos that were killed, the last one first, and says so. What fails is tried again the next time. */
export async function undoLeftChanges(owner: PolicyOwner, print: (line: string) => void): Promise<void> {
  const gateway = hashOf(owner.adminKey)
  const left = readChanges(owner.homeDir).filter((change) => change.gateway === gateway && !isRunning(change))
  if (left.length === 0) return
  const parts = [...new Set(left.flatMap(({ set }) => partsOf(set)))].join(', ')
  try {
    for (const change of left.toReversed()) await undoChange(owner, change)
    print(`An earlier demo was killed and left its policy (${parts}). The former one is set again.`)
  } catch (error) {
    if (error instanceof UserError && error.code === 'interrupted') throw error
    const reason = error instanceof Error ? error.message : String(error)
    print(
      `An earlier demo was killed and left its policy (${parts}), which could not be taken back: ${reason} ` +
        "See 'npx copal policy show'.",
    )
  }
}

function hashOf(adminKey: string): string {
  return createHash('sha256').update(adminKey).digest('hex').slice(0, 16)
}

function isRunning({ pid, startTicks: began }: PolicyChange): boolean {
  return isAlive(pid) && startTicks(pid) === began
}

function partsOf(set: PolicyOverrides): (keyof PolicyOverrides)[] {
  return Object.keys(set) as (keyof PolicyOverrides)[]
}

function readChanges(homeDir: string): PolicyChange[] {
  try {
    return z.array(policyChange).parse(JSON.parse(readFileSync(join(homeDir, FILE), 'utf8')))
  } catch {
    // There is none, or it is damaged.
    return []
  }
}

/** Replaces the file in one step; without changes there is none. */
function writeChanges(homeDir: string, changes: readonly PolicyChange[]): void {
  const path = join(homeDir, FILE)
  if (changes.length === 0) {
    rmSync(path, { force: true })
    return
  }
  mkdirSync(homeDir, { recursive: true, mode: 0o700 })
  writeFileSync(`${path}.new`, `${JSON.stringify(changes, null, 2)}\n`)
  renameSync(`${path}.new`, path)
}
