import type { Command } from 'commander'
import {
  endedTrial,
  type ShadowMeans,
  shadowReport,
  type ShadowReport,
} from '@copal/shared/wire/admin-trials.ts'
import { modelQuery, parseMask } from '../input/mask-argument.ts'
import { formatCount, formatMask, formatPercent, formatTime } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addTrialOptions, describeNodes, trialChange, type TrialOptions } from '../options/trial-options.ts'

export function addShadow(program: Command, session: Session): void {
  const shadow = program
    .command('shadow')
    .description(
      'score a share of the requests with another mask, without serving it, and compare the losses',
    )
    .argument(
      '[mask]',
      'the mask to start with, like 5 or m5, or dense; without it, report on the running trial',
      parseMask,
    )
  addTrialOptions(shadow, 'requests')
    .addHelpText(
      'after',
      '\nOnly requests that may be sampled are scored. Their responses do not change.' +
        '\n\nExamples:\n  copal shadow m5 --share 5%\n  copal shadow\n  copal shadow --end',
    )
    .action(async (mask: number | undefined, options: TrialOptions, command: Command) => {
      const change = trialChange(mask, options, command)
      const client = session.client()
      if (change === 'end') {
        const path = `/shadow${modelQuery(options.model)}`
        const gone = await client.admin('DELETE', path, endedTrial)
        session.print(options.json, gone, () =>
          gone.ended ? `The shadow of ${gone.model} has ended.` : 'No shadow was running.',
        )
        return
      }
      const report = change
        ? await client.admin('PUT', '/shadow', shadowReport, change)
        : await client.admin('GET', `/shadow${modelQuery(options.model)}`, shadowReport)
      session.print(options.json, report, () => describe(report, session))
    })
}

function describe(report: ShadowReport, session: Session): string {
  const { shadow, nodes, domains } = report
  if (!shadow || !nodes) {
    return `${report.model} has no shadow; ${formatMask(report.active_version)} is active. Start one with: copal shadow <mask> --share 5%`
  }
  const parts = [
    `${formatMask(shadow.mask_version)} scores ${formatPercent(shadow.share)} of the requests to ${report.model} ` +
      `that may be sampled; ${formatMask(report.active_version)} serves them.`,
    ...describeNodes(nodes),
    `Since ${formatTime(shadow.since)}, nats per token; the gap is what it would cost:`,
  ]
  const rows = domains.flatMap(({ domain, requests, prompt, answer }) => [
    { domain, requests, text: 'prompt', ...prompt },
    { domain, requests, text: 'output', ...answer },
  ])
  parts.push(
    rows.length === 0
      ? 'Nothing has been scored yet.'
      : session.table(
          [
            { title: 'DOMAIN', value: (row) => row.domain, shrinks: true },
            { title: 'REQUESTS', value: (row) => formatCount(row.requests), align: 'right' },
            { title: 'TEXT', value: (row) => row.text },
            { title: 'TOKENS', value: (row) => formatCount(row.tokens), align: 'right' },
            { title: 'ACTIVE', value: (row) => row.nll_active?.toFixed(3) ?? '-', align: 'right' },
            { title: 'SHADOW', value: (row) => row.nll_shadow?.toFixed(3) ?? '-', align: 'right' },
            { title: 'GAP', value: gap, align: 'right' },
          ],
          rows,
        ),
  )
  return parts.join('\n\n')
}

function gap({ nll_active: active, nll_shadow: shadow }: ShadowMeans): string {
  return active === null || shadow === null ? '-' : (shadow - active).toFixed(3)
}
