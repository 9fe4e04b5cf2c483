import type { Command } from 'commander'
import {
  canaryReport,
  type CanaryReport,
  endedTrial,
  type VersionTraffic,
} from '@copal/shared/wire/admin-trials.ts'
import { modelQuery, parseMask } from '../input/mask-argument.ts'
import {
  formatCount,
  formatDuration,
  formatMask,
  formatPercent,
  formatTime,
} from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import {
  addTrialOptions,
  describeEvidence,
  describeNodes,
  trialChange,
  type TrialOptions,
} from '../options/trial-options.ts'

export function addCanary(program: Command, session: Session): void {
  const canary = program
    .command('canary')
    .description('serve a mask to a share of the conversations before promoting it, and compare the results')
    .argument(
      '[mask]',
      'the mask to start with, like 5 or m5, or dense; without it, report on the running trial',
      parseMask,
    )
  addTrialOptions(canary, 'conversations')
    .addHelpText(
      'after',
      '\nOnly a mask that was active before or has passed the gate, or dense, can be a\ncanary; a shadow can be any mask.' +
        '\n\nExamples:\n  copal canary m5 --share 10%\n  copal canary\n  copal canary m5 --share 50%\n  copal canary --end',
    )
    .action(async (mask: number | undefined, options: TrialOptions, command: Command) => {
      const change = trialChange(mask, options, command)
      const client = session.client()
      if (change === 'end') {
        const path = `/canary${modelQuery(options.model)}`
        const gone = await client.admin('DELETE', path, endedTrial)
        session.print(options.json, gone, () =>
          gone.ended
            ? `The active mask of ${gone.model} serves all conversations again.`
            : 'No canary was running.',
        )
        return
      }
      const report = change
        ? await client.admin('PUT', '/canary', canaryReport, change)
        : await client.admin('GET', `/canary${modelQuery(options.model)}`, canaryReport)
      session.print(options.json, report, () => describe(report, session))
    })
}

function describe(report: CanaryReport, session: Session): string {
  const { canary, nodes, versions } = report
  if (!canary || !nodes) {
    return `${report.model} serves ${formatMask(report.active_version)} to all conversations. Start a canary with: copal canary <mask> --share 10%`
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
