import type { Command } from 'commander'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { inCommands } from '../api-words.ts'
import { formatAge, formatMask } from '../quantities.ts'
import type { Session } from '../session.ts'

export function addUpdates(program: Command, session: Session): void {
  program
    .command('updates')
    .description('updates, newest first')
    .argument('[id]', 'only this one')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  copal updates\n  copal updates --json')
    .action(async (id: string | undefined, { json }: { json?: boolean }) => {
      if (id !== undefined) {
        const update = await session.client().admin<UpdateEntry>('GET', `/updates/${encodeURIComponent(id)}`)
        session.print(json, update, () => describe([update], session))
        return
      }
      const { data: updates } = await session.client().admin<{ data: UpdateEntry[] }>('GET', '/updates')
      session.print(json, updates, () =>
        updates.length === 0
          ? 'No update yet. Start one with: copal update <domain>'
          : describe(updates, session),
      )
    })
}

export function addCancel(program: Command, session: Session): void {
  program
    .command('cancel')
    .description('end an update that has not promoted its mask')
    .argument('<id>', 'as copal updates shows it')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  copal cancel upd_0123456789abcdef')
    .action(async (id: string, { json }: { json?: boolean }) => {
      const update = await session
        .client()
        .admin<UpdateEntry>('POST', `/updates/${encodeURIComponent(id)}/cancel`)
      session.print(json, update, () => `Update ${update.id}: ${update.state}.`)
    })
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
      { title: 'STARTED', value: (update) => formatAge(update.created_at, nowMs) },
    ],
    updates,
  )
}

function describeState(update: UpdateEntry): string {
  if (update.error) return `${update.state}: ${inCommands(update.error.message)}`
  return update.finished_at === null ? `${update.state} ${Math.floor(update.progress * 100)} %` : update.state
}
