import type { Command } from 'commander'
import { triggersReport, type TriggerDomain, type TriggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { UPDATE_STATES } from '@copal/shared/wire/update-states.ts'
import { formatTime } from '@copal/gpu-node/platform/quantities.ts'
import { withTimeLeft } from '../api/follow-update.ts'
import { modelQuery } from '../input/mask-argument.ts'
import type { Session } from '../api/session.ts'

/** Adds `copal triggers`. */
export function addTriggers(program: Command, session: Session): void {
  program
    .command('triggers')
    .description('show which domains are due for an update, and when the next one may start by itself')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal triggers\n  npx copal policy set triggers.quiet_hours=22:00-06:00 triggers.max_per_day=2',
    )
    .action(async ({ model, json }: { model?: string; json?: boolean }) => {
      const report = await session.client().admin('GET', `/triggers${modelQuery(model)}`, triggersReport)
      session.print(json, report, () => describe(report, session))
    })
}

function describe(report: TriggersReport, session: Session): string {
  const { model, enabled, running, domains, next_domains: next, next_schedule_at: scheduleAt } = report
  const takes = enabled ? 'The next update takes' : 'With triggers on, the next update would take'
  const facts = [
    `Triggers of ${model}${report.dry_run ? ' (dry run: nothing starts)' : ''}`,
    ...(running === null ? [] : [describeRunning(running, report.node_share)]),
    describeStart(report),
    ...(next.length === 0 ? [] : [`${takes} ${next.join(', ')}.`]),
    ...(enabled && scheduleAt !== null
      ? [`By the schedule, every domain with new text is due at ${formatTime(scheduleAt)}.`]
      : []),
  ]
  if (domains.length === 0) return `${facts.join('\n')}\n\nThere is no domain yet.`
  return `${facts.join('\n')}\n\n${describeDomains(domains, session)}`
}

function describeRunning(
  { id, state, progress, domains, trigger, job }: NonNullable<TriggersReport['running']>,
  share: number,
) {
  const work = job === null ? '' : `, ${withTimeLeft(job.message)}`
  return (
    `Running: ${id} (${trigger}) of ${domains.join(', ')}: ${UPDATE_STATES[state]}, ${Math.floor(progress * 100)} %${work}. ` +
    `It yields to requests, and takes at most ${Math.round(share * 100)} % of a node's time while there are any.`
  )
}

function describeStart({
  enabled,
  running,
  waits_for: waitsFor,
  next_start_at: at,
  started_today: started,
}: TriggersReport) {
  const today = `${started} started in 24 hours.`
  if (!enabled) return `No update starts by itself: ${waitsFor}.`
  if (running !== null) return `Another one may start when it has ended. ${today}`
  if (waitsFor === null) return `An update may start now. ${today}`
  const when = at === null ? '' : ` The earliest start is ${formatTime(nextMinute(at))}.`
  return `No update may start now: ${waitsFor}.${when} ${today}`
}

/** The next full minute, so that a time that is shown without seconds is not over while something waits for it. */
function nextMinute(at: string): string {
  return new Date(Math.ceil(Date.parse(at) / 60_000) * 60_000).toISOString()
}

function describeDomains(domains: readonly TriggerDomain[], session: Session): string {
  return session.table(
    [
      { title: 'DOMAIN', value: ({ domain }) => domain },
      { title: 'NEW', value: (each) => String(each.new_segments), align: 'right' },
      { title: 'GAP', value: ({ gap }) => (gap === null ? '-' : gap.toFixed(3)), align: 'right' },
      { title: 'TRAFFIC', value: (each) => `${(each.traffic_share * 100).toFixed(0)} %`, align: 'right' },
      { title: 'GAIN', value: ({ gain }) => gain.toFixed(2), align: 'right' },
      { title: 'DUE', value: ({ due }) => due ?? 'no' },
      { title: 'REASON', value: ({ reason }) => reason, shrinks: true },
    ],
    domains,
  )
}
