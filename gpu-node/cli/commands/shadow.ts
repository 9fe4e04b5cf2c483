import type { Command } from 'commander'
import { type ShadowMeans, shadowReport, type ShadowReport } from '@copal/shared/wire/admin-trials.ts'
import { formatCount, formatMask, formatPercent, formatTime } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addTrial, describeNodes } from './trial.ts'

export function addShadow(program: Command, session: Session): void {
  addTrial(program, session, {
    name: 'shadow',
    description:
      'score a share of the requests with another mask, without serving it, and compare the losses',
    share: { of: 'requests', max: 1 },
    help:
      '\nOnly requests that may be sampled are scored. Their responses do not change.' +
      '\n\nExamples:\n  npx copal shadow m5 --share 5%\n  npx copal shadow\n  npx copal shadow --end',
    report: shadowReport,
    describe,
    describeEnd: (model) => `The shadow of ${model} has ended.`,
  })
}

function describe(report: ShadowReport, session: Session): string {
  const { shadow, nodes, domains } = report
  if (!shadow || !nodes) {
    return `${report.model} has no shadow; ${formatMask(report.active_version)} is active. Start one with: npx copal shadow <mask> --share 5%`
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
