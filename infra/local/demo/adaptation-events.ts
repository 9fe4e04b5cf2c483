import { setTimeout as sleep } from 'node:timers/promises'
import { updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { domainEntry } from '@copal/shared/wire/admin-domains.ts'
import { triggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { formatMask } from '../../../gpu-node/src/platform/quantities.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'
import { followUpdate } from '../../../gpu-node/cli/api/follow-update.ts'
import { describeFailure } from '../../../gpu-node/cli/commands/update.ts'
import { listOf } from '../../../gpu-node/cli/api/api-client.ts'
import { describeDecisions } from '../../../gpu-node/cli/output/decision-table.ts'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { interrupted, print, session } from './demo-session.ts'

const POLL_MS = 2_000
/** Domains and updates are looked after once a minute, and a busy node takes minutes to read the texts. When nothing has happened
 * for this long, nothing will. */
const QUIET_MS = 300_000

/**
 * Prints the domains that are found and the updates that start by themselves, until every new domain is served by a mask that
 * knows it and no update is due.
 *
 * @param known domains from before
 * @throws UserError `not_adapted` if nothing happens for minutes and no domain was learned
 */
export async function followAdaptation(known: readonly string[]): Promise<void> {
  const admin = session.client()
  const seen = new Set(known)
  const learned = new Set<string>()
  const ended = new Set((await updates()).map(({ id }) => id))
  let lastEventMs = Date.now()
  for (;;) {
    const { data } = await admin.admin('GET', '/domains', listOf(domainEntry))
    for (const { name, samples, holdout_samples: heldOut } of data) {
      if (seen.has(name)) continue
      seen.add(name)
      lastEventMs = Date.now()
      print(`   Found the domain '${name}': ${samples} texts to learn from, ${heldOut} held out`)
    }
    for (const { id } of await updates()) {
      if (ended.has(id)) continue
      ended.add(id)
      const update = await follow(id)
      if (update.state === 'promoted') for (const domain of update.domains) learned.add(domain)
      lastEventMs = Date.now()
    }
    const { domains, running } = await admin.admin('GET', '/triggers', triggersReport)
    const isQuiet = Date.now() - lastEventMs >= QUIET_MS
    const isDue = running !== null || domains.some(({ due }) => due !== null)
    if (!isDue && isQuiet) {
      if (learned.size > 0) return
      throw new UserError(
        'not_adapted',
        `No update started by itself. See: npx copal triggers\n${domains.map(({ domain, reason }) => `  ${domain}: ${reason}`).join('\n')}`,
      )
    }
    if (!isDue && learned.size > 0 && [...seen].every((name) => known.includes(name) || learned.has(name)))
      return
    await sleep(POLL_MS, undefined, { signal: interrupted })
  }
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
