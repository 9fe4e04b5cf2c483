import type { Command } from 'commander'
import {
  endedTrial,
  type ShadowMeans,
  shadowReport,
  type ShadowReport,
} from '@copal/shared/wire/admin-trials.ts'
import { modelQuery, parseMask } from '../input/mask-argument.ts'
import { formatCount, formatMask, formatPercent } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addTrialOptions, describeNodes, trialChange, type TrialOptions } from '../options/trial-options.ts'

export function addShadow(program: Command, session: Session): void {
  const shadow = program
    .command('shadow')
    .description('have a mask score a share of what the active one answers, and see what it would cost')
    .argument(
      '[mask]',
      'begin with it: like 5 or m5, or dense; left out: report on the running one',
      parseMask,
    )
  addTrialOptions(shadow, 'requests')
    .addHelpText(
      'after',
      '\nOnly requests that may be sampled are scored; their answers do not change.' +
        '\n\nExamples:\n  copal shadow m5 --share 5%\n  copal shadow\n  copal shadow --end',
    )
    .action(async (mask: number | undefined, options: TrialOptions, command: Command) => {
      const change = trialChange(mask, options, command)
      const client = session.client()
      if (change === 'end') {
        const path = `/shadow${modelQuery(options.model)}`
        const gone = await client.admin('DELETE', path, endedTrial)
        session.print(options.json, gone, () =>
          gone.ended
            ? `Nothing of ${gone.model} is scored by another mask any more.`
            : 'There was no shadow.',
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
    return `No mask scores what ${formatMask(report.active_version)} of ${report.model} answers. Begin with: copal shadow <mask> --share 5%`
  }
  const parts = [
    `${formatMask(shadow.mask_version)} scores ${formatPercent(shadow.share)} of the requests to ${report.model} ` +
      `that may be sampled, beside ${formatMask(report.active_version)}.`,
    ...describeNodes(nodes),
    `Since ${shadow.since}, nats a token; what it would cost is the gap:`,
  ]
  const rows = domains.flatMap(({ domain, requests, prompt, answer }) => [
    { domain, requests, text: 'asked', ...prompt },
    { domain, requests, text: 'answered', ...answer },
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
