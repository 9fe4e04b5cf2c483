import type { Command } from 'commander'
import {
  canaryReport,
  type CanaryReport,
  MAX_CANARY_SHARE,
  type VersionTraffic,
} from '@copal/shared/wire/admin-trials.ts'
import {
  formatCount,
  formatDuration,
  formatMask,
  formatPercent,
  formatTime,
} from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { addTrial, describeEvidence, describeNodes } from './trial.ts'

export function addCanary(program: Command, session: Session): void {
  addTrial(program, session, {
    name: 'canary',
    description: 'serve a mask to a share of the conversations before promoting it, and compare the results',
    share: { of: 'conversations', max: MAX_CANARY_SHARE },
    help:
      '\nOnly a mask that was active before or has passed the gate, or dense, can be a\ncanary; a shadow can be any mask.' +
      '\n\nExamples:\n  npx copal canary m5 --share 10%\n  npx copal canary\n  npx copal canary m5 --share 50%\n  npx copal canary --end',
    report: canaryReport,
    describe,
    describeEnd: (model) => `The active mask of ${model} serves all conversations again.`,
  })
}

function describe(report: CanaryReport, session: Session): string {
  const { canary, nodes, versions } = report
  if (!canary || !nodes) {
    return `${report.model} serves ${formatMask(report.active_version)} to all conversations. Start a canary with: npx copal canary <mask> --share 10%`
  }
  const parts = [
    `${formatMask(canary.mask_version)} serves ${formatPercent(canary.share)} of the conversations of ${report.model}; ` +
      `${formatMask(report.active_version)} serves the others.`,
    ...(canary.update_id === null ? [] : [`Update ${canary.update_id} runs it. ${describeEvidence(canary)}`]),
    ...(versions.some(({ requests }) => requests > 0) && servedBy(versions, canary.mask_version) === 0
      ? ['The canary has served no request yet. With few conversations, choose a larger share.']
      : []),
    ...describeNodes(nodes),
    `Since ${formatTime(canary.since)}:`,
  ]
  parts.push(
    session.table<VersionTraffic>(
      [
        { title: 'MASK', value: (row) => formatMask(row.mask_version) },
        { title: 'REQUESTS', value: (row) => formatCount(row.requests), align: 'right' },
        { title: 'FAILED', value: (row) => formatCount(row.failed), align: 'right' },
        { title: 'TOKENS', value: (row) => formatCount(row.completion_tokens), align: 'right' },
        { title: 'FIRST TOKEN', value: (row) => milliseconds(row.time_to_first_token_ms), align: 'right' },
        { title: 'SCORED TOKENS', value: (row) => formatCount(row.scored_tokens), align: 'right' },
        { title: 'PRUNED', value: (row) => row.nll_masked?.toFixed(3) ?? '-', align: 'right' },
        { title: 'DENSE', value: (row) => row.nll_dense?.toFixed(3) ?? '-', align: 'right' },
        { title: 'GAP', value: gap, align: 'right' },
      ],
      report.versions,
    ),
  )
  return parts.join('\n\n')
}

function servedBy(versions: readonly VersionTraffic[], version: number): number {
  return versions.find(({ mask_version: served }) => served === version)?.requests ?? 0
}

function gap({ nll_masked: masked, nll_dense: dense }: VersionTraffic): string {
  return masked === null || dense === null ? '-' : (masked - dense).toFixed(3)
}

function milliseconds(ms: number | null): string {
  if (ms === null) return '-'
  return ms < 10_000 ? `${Math.round(ms)} ms` : formatDuration(ms)
}
