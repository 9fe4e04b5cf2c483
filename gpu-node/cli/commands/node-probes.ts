import type { Command } from 'commander'
import { probesReport, type ProbeEntry } from '@copal/shared/wire/admin-alerts.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'
import { modelQuery } from '../input/mask-argument.ts'
import type { Session } from '../api/session.ts'

/** Adds `copal nodes probes`. */
export function addNodeProbes(nodes: Command, session: Session): void {
  nodes
    .command('probes')
    .description('show how nodes score the same fixed texts, which tells damaged weights')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal nodes probes')
    .action(async (_: object, command: Command) => {
      const { model, json } = command.optsWithGlobals<{ model?: string; json?: boolean }>()
      const report = await session.client().admin('GET', `/probes${modelQuery(model)}`, probesReport)
      session.print(json, report, () => describe(report.probes, session))
    })
}

function describe(probes: readonly ProbeEntry[], session: Session): string {
  if (probes.length === 0) return 'No node has scored the probe texts yet.'
  return session.table(
    [
      { title: 'NODE', value: ({ node }) => node },
      { title: 'MASK', value: ({ mask_version: mask }) => formatMask(mask) },
      { title: 'LOSS', value: ({ nll }) => nll.toFixed(4), align: 'right' },
      {
        title: 'OTHERS',
        value: ({ expected }) => (expected === null ? '-' : expected.toFixed(4)),
        align: 'right',
      },
      {
        title: 'MATCHES',
        // A single node can differ from its score of before only.
        value: ({ matches, expected }) => (matches ? (expected === null ? 'alone' : 'yes') : 'NO'),
      },
    ],
    probes,
  )
}
