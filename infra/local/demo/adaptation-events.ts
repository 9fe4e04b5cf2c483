import { setTimeout as sleep } from 'node:timers/promises'
import { updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { domainEntry, type DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import { proposalList, type WaitingTexts } from '@copal/shared/wire/admin-proposals.ts'
import { triggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { counted, formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { describeFailure } from '../../../gpu-node/cli/commands/update.ts'
import { listOf } from '../../../gpu-node/cli/api/api-client.ts'
import { describeDecisions } from '../../../gpu-node/cli/output/decision-table.ts'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { interrupted, print, session } from './demo-session.ts'

const POLL_MS = 2_000
/** Domains and updates are looked after once a minute, and a busy node takes minutes to read a few texts. When nothing has
 * happened for this long, nothing will. */
const QUIET_MS = 300_000

/**
 * Prints the domains that are found and the updates that start by themselves, until every new domain is served by a mask that
 * knows it and no update is due.
 *
 * @param known {@link domainNames} from before the texts were sent
 * @throws UserError `not_adapted` if nothing happens for minutes and no domain was learned
 */
export async function followAdaptation(known: readonly string[]): Promise<void> {
  const admin = session.client()
  const bar = createProgressBar(process.stderr)
  let read: number | undefined
  const seen = new Set(known)
  const learned = new Set<string>()
  const ended = new Set((await updates()).map(({ id }) => id))
  let lastEventMs = Date.now()
  for (;;) {
    const { waiting } = await admin.admin('GET', '/proposals', proposalList)
    if (waiting && learned.size === 0 && waiting.read !== read) {
      lastEventMs = Date.now()
      read = waiting.read
      const share = waiting.texts === 0 ? 1 : read / waiting.texts
      if (share < 1) bar.update('   Texts that a node has read', share, `${read} of ${waiting.texts}`)
      else bar.end()
    }
    for (const { name, samples, holdout_samples: heldOut } of await domains()) {
      if (seen.has(name)) continue
      seen.add(name)
      lastEventMs = Date.now()
      bar.end()
      print(`   Found the domain '${name}': ${counted(samples, 'text')} to learn from, ${heldOut} held out`)
    }
    for (const { id } of await updates()) {
      if (ended.has(id)) continue
      ended.add(id)
      bar.end()
      const update = await follow(id)
      if (update.state === 'promoted') for (const domain of update.domains) learned.add(domain)
      lastEventMs = Date.now()
    }
    const triggers = await admin.admin('GET', '/triggers', triggersReport)
    const isQuiet = Date.now() - lastEventMs >= QUIET_MS
    const isDue = triggers.running !== null || triggers.domains.some(({ due }) => due !== null)
    if (!isDue && isQuiet) {
      if (learned.size > 0) return
      bar.end()
      const reasons = triggers.domains.map(({ domain, reason }) => `  ${domain}: ${reason}`).join('\n')
      throw new UserError(
        'not_adapted',
        `No update started by itself.${describeUnread(waiting)} See: npx copal triggers\n${reasons}`,
      )
    }
    if (!isDue && learned.size > 0 && [...seen].every((name) => known.includes(name) || learned.has(name)))
      return
    await sleep(POLL_MS, undefined, { signal: interrupted })
  }
}

/** Says how many texts a node must read before domains are found; nothing if it has read all. */
export function describeUnread(waiting: WaitingTexts | undefined): string {
  if (waiting === undefined || waiting.read === waiting.texts) return ''
  return ` A node has read ${waiting.read} of ${waiting.texts} texts; domains are found when it has read all.`
}

/** Returns the names of all domains, also of those that no mask knows yet. */
export async function domainNames(): Promise<string[]> {
  return (await domains()).map(({ name }) => name)
}

async function domains(): Promise<DomainEntry[]> {
  return (await session.client().admin('GET', '/domains', listOf(domainEntry))).data
}

/** Returns the updates, oldest first. */
async function updates(): Promise<UpdateEntry[]> {
  return (await session.client().admin('GET', '/updates', listOf(updateEntry))).data.toReversed()
}

async function follow(id: string): Promise<UpdateEntry> {
  const admin = session.client()
  const started = await admin.admin('GET', `/updates/${id}`, updateEntry)
  print(`\n   Update of ${started.domains.join(', ')} (${started.trigger}): ${started.trigger_reason}`)
  const ended = await followUpdate(admin, id, createProgressBar(process.stderr), interrupted)
  const { decisions = [] } = await admin.admin('GET', `/updates/${id}`, updateEntry)
  print(`\n${describeDecisions(decisions, session)}\n`)
  print(`   ${describeOutcome(ended)}`)
  return ended
}

/** Says that the mask of an update is live, or why none is, and names the commands that help. */
export function describeOutcome(ended: UpdateEntry): string {
  return ended.state === 'promoted'
    ? `${formatMask(ended.mask_version ?? 0)} is live.`
    : describeFailure(ended)
}
