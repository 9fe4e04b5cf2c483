import type { Command } from 'commander'
import { alertsReport, type AlertEntry } from '@copal/shared/wire/admin-alerts.ts'
import { formatMask, formatTime } from '@copal/gpu-node/platform/quantities.ts'
import { withCommands } from '../api/command-wording.ts'
import type { Session } from '../api/session.ts'

interface AlertOptions {
  model?: string
  active?: boolean
  json?: boolean
}

const KINDS = {
  input_drift: 'traffic changed',
  gap_drift: 'gap rose',
  probe_mismatch: 'node differs',
} as const

/** Adds `copal alerts`. */
export function addAlerts(program: Command, session: Session): void {
  program
    .command('alerts')
    .description(
      'show domains whose traffic or cost of pruning changed, and nodes whose weights may be damaged',
    )
    .option('--model <id>', 'only of this model')
    .option('--active', 'only alerts that hold')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal alerts\n  npx copal alerts --active --json | jq .alerts[].message',
    )
    .action(async ({ model, active, json }: AlertOptions) => {
      const query = new URLSearchParams({
        ...(model === undefined ? {} : { model }),
        ...(active ? { active: 'true' } : {}),
      }).toString()
      const report = await session
        .client()
        .admin('GET', `/alerts${query === '' ? '' : `?${query}`}`, alertsReport)
      session.print(json, report, () => describe(report.alerts, active === true, session))
    })
}

function describe(alerts: readonly AlertEntry[], isActiveOnly: boolean, session: Session): string {
  const holding = alerts.filter(({ ended_at: ended }) => ended === null)
  if (alerts.length === 0) return isActiveOnly ? 'No alert is active.' : 'There was no alert.'
  const table = session.table(
    [
      { title: 'RAISED', value: ({ raised_at: at }) => formatTime(at) },
      { title: 'ENDED', value: ({ ended_at: at }) => (at === null ? 'holds' : formatTime(at)) },
      { title: 'ALERT', value: ({ kind }) => KINDS[kind] },
      { title: 'OF', value: ({ domain, node }) => domain ?? node ?? '-' },
      { title: 'MASK', value: ({ mask_version: mask }) => (mask === null ? '-' : formatMask(mask)) },
    ],
    alerts,
  )
  const messages = holding.map(({ message }) => withCommands(message))
  return [table, ...messages].join('\n\n')
}
