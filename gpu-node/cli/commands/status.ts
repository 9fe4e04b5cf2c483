import type { Command } from 'commander'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { statusReport, type StatusReport } from '@copal/shared/wire/admin.ts'
import { nodeTable } from './node-table.ts'
import {
  counted,
  formatCount,
  formatMask,
  formatPercent,
  formatTime,
} from '@copal/gpu-node/platform/quantities.ts'
import { findOverview } from '../input/find-overview.ts'
import type { Session } from '../api/session.ts'
import { describeEvidence } from './trial.ts'

export function addStatus(program: Command, session: Session): void {
  program
    .command('status')
    .description('show models, nodes and the masks they serve')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal status\n  npx copal status --json | jq .models[0].active_version',
    )
    .action(async ({ json }: { json?: boolean }) => {
      const report = await session.client().admin('GET', '/status', statusReport)
      const overviews = json
        ? []
        : await Promise.all(report.models.map(({ id }) => findOverview(session.client(), id)))
      session.print(json, report, () =>
        describe(
          report,
          overviews.filter((overview) => overview !== undefined),
          session,
        ),
      )
    })
}

function describe(report: StatusReport, overviews: readonly OverviewReport[], session: Session): string {
  const parts = [`copal ${report.version}, ${counted(report.updates_running, 'update')} running`]
  parts.push(
    report.models.length === 0
      ? 'No node has registered a model yet.'
      : session.table(
          [
            { title: 'MODEL', value: (model) => model.id, shrinks: true },
            { title: 'MASK', value: (model) => formatMask(model.active_version) },
            {
              title: 'PREVIOUS',
              value: (model) => (model.previous_version === null ? '-' : formatMask(model.previous_version)),
            },
            { title: 'SPARSITY', value: (model) => formatPercent(model.sparsity), align: 'right' },
            { title: 'CONTEXT', value: (model) => formatCount(model.context_length), align: 'right' },
            { title: 'CONVERGED', value: (model) => (model.converged ? 'yes' : 'not yet') },
          ],
          report.models,
        ),
  )
  for (const { model, health } of overviews) parts.push(`${model.id}: ${health.text}`)
  for (const { id, canary, shadow, watch } of report.models) {
    if (watch) {
      parts.push(
        `Watch of ${id}: ${formatMask(watch.mask_version)} beside ${formatMask(watch.beside_version)} until ${formatTime(watch.until)}. ` +
          describeEvidence(watch),
      )
    }
    if (shadow) {
      const { mask_version: version, share } = shadow
      parts.push(
        `Shadow of ${id}: ${formatMask(version)} for ${formatPercent(share)} of the requests. See: npx copal shadow`,
      )
    }
    if (!canary) continue
    const { mask_version: version, share } = canary
    parts.push(
      `Canary of ${id}: ${formatMask(version)} for ${formatPercent(share)} of the conversations. See: npx copal canary`,
    )
  }
  if (report.nodes.length > 0) parts.push(nodeTable(report.nodes, session))
  return parts.join('\n\n')
}
