import type { Command } from 'commander'
import { updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import { isRejected, UPDATE_STATES, updateStateWord } from '@copal/shared/wire/update-states.ts'
import { withCommands } from '../api/command-wording.ts'
import { withTimeLeft } from '../api/follow-update.ts'
import { listOf } from '../api/api-client.ts'
import { formatAge, formatMask } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { describeDecisions } from '../output/decision-table.ts'
import { fittingStart, textWidth } from '../output/text-width.ts'
import { addUpdatesForce } from './updates-force.ts'

/** Columns of a terminal for the reason of a failure in the table of updates. */
const MAX_REASON_WIDTH = 60

export function addUpdates(program: Command, session: Session): void {
  const command = program
    .command('updates')
    .description(
      'list updates, newest first, or show one with its whole reason and what was decided about it',
    )
    .argument('[id]', 'show only this update, with its decisions')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal updates\n  npx copal updates upd_0123456789abcdef\n  npx copal updates --json',
    )
    .action(async (id: string | undefined, { json }: { json?: boolean }) => {
      if (id !== undefined) {
        const update = await session.client().admin('GET', `/updates/${encodeURIComponent(id)}`, updateEntry)
        session.print(json, update, () => describeOne(update, session))
        return
      }
      const { data: updates } = await session.client().admin('GET', '/updates', listOf(updateEntry))
      session.print(json, updates, () =>
        updates.length === 0
          ? 'There is no update yet. Start one with: npx copal update <domain>'
          : describe(updates, session),
      )
    })
  addUpdatesForce(command, session)
}

export function addCancel(program: Command, session: Session): void {
  program
    .command('cancel')
    .description('cancel an update whose mask no node serves yet')
    .argument('<id>', 'id of the update, see npx copal updates')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal cancel upd_0123456789abcdef')
    .action(async (id: string, { json }: { json?: boolean }) => {
      const update = await session
        .client()
        .admin('POST', `/updates/${encodeURIComponent(id)}/cancel`, updateEntry)
      session.print(json, update, () => `Update ${update.id}: ${updateStateWord(update)}.`)
    })
}

/** Describes one update, with its whole message and what was decided about it. */
function describeOne(update: UpdateEntry, session: Session): string {
  const { id, domains, method, pattern, scope, mask_version: version, message, error } = update
  const facts = {
    update: id,
    domains: domains.join(', '),
    method: `${method} ${pattern}${scope === 'matrix' ? ' matrix' : ''}`,
    state: describeProgress(update) + describeEndedIn(update),
    mask: version === null ? '-' : formatMask(version),
    started: formatAge(update.created_at, Date.now()),
    trigger: update.trigger_reason === '' ? update.trigger : `${update.trigger}: ${update.trigger_reason}`,
    message: withCommands(error?.message ?? withTimeLeft(update.job?.message ?? message)),
  }
  const lines = Object.entries(facts).map(([name, value]) => `${name.padEnd(8)} ${value}`)
  const { decisions = [] } = update
  const force = `To serve its mask all the same: npx copal updates force ${id} --reason "…"`
  return [
    lines.join('\n'),
    ...(decisions.length === 0 ? [] : [describeDecisions(decisions, session)]),
    ...(update.forceable ? [force] : []),
  ].join('\n\n')
}

/** Says in which state an update was cancelled or a job of it failed. */
function describeEndedIn(update: UpdateEntry): string {
  const { ended_in: endedIn } = update
  return endedIn == null || isRejected(update) ? '' : ` while ${UPDATE_STATES[endedIn]}`
}

function describe(updates: UpdateEntry[], session: Session): string {
  const nowMs = Date.now()
  return session.table(
    [
      { title: 'UPDATE', value: (update) => update.id },
      { title: 'DOMAINS', value: (update) => update.domains.join(','), shrinks: true },
      { title: 'STATE', value: (update) => describeState(update), shrinks: true },
      {
        title: 'MASK',
        value: (update) => (update.mask_version === null ? '-' : formatMask(update.mask_version)),
      },
      { title: 'TRIGGER', value: (update) => update.trigger },
      { title: 'STARTED', value: (update) => formatAge(update.created_at, nowMs) },
    ],
    updates,
  )
}

function describeState(update: UpdateEntry): string {
  const state = describeProgress(update)
  return update.error ? `${state}: ${shortReason(withCommands(update.error.message))}` : state
}

function describeProgress(update: UpdateEntry): string {
  const word = updateStateWord(update)
  return update.finished_at === null ? `${word}, ${Math.floor(update.progress * 100)} %` : word
}

/** Cuts a reason to the width of a column; the update by itself is shown with all of it. */
function shortReason(reason: string): string {
  return textWidth(reason) <= MAX_REASON_WIDTH
    ? reason
    : `${fittingStart(reason, MAX_REASON_WIDTH - 1).trimEnd()}…`
}
