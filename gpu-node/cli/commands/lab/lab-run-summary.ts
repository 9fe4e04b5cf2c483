import { freemem, totalmem } from 'node:os'
import { join } from 'node:path'
import { runLabel } from '@copal/lab/run/assemble-results.ts'
import { methodLabel } from '@copal/lab/results/labels.ts'
import type { LabOutcome, LabPlan } from '@copal/lab/run/run-lab.ts'
import type { LabRun } from '@copal/lab/results/lab-results.ts'
import type { LabSettings } from '@copal/lab/plan/lab-settings.ts'
import { hasWeightStasis } from '@copal/lab/results/summary.ts'
import {
  counted,
  formatBytes,
  formatDuration,
  formatPerplexity,
} from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../../api/session.ts'

/** Describes the plan for people; `whole` lists every run. */
export function describePlan(
  plan: LabPlan,
  settings: LabSettings,
  extent: 'short' | 'whole' = 'short',
): string {
  const { runs, masks, masksToSelect, calibrations, evaluations, estimate } = plan
  const heldOut = settings.domains.filter(({ calibrationPath }) => calibrationPath === null).length
  const orders = runs[0]?.orders.length ?? 0
  const lines = [
    `${counted(settings.domains.length - heldOut, 'domain')} in ${counted(orders, 'order')}, ` +
      `${counted(heldOut, 'domain')} only evaluated; ${counted(masks, 'mask')}.`,
  ]
  if (extent === 'whole') {
    for (const run of runs) lines.push(`  ${runLabel(run)}: ${counted(run.stages.length, 'mask')}`)
  }
  if (calibrations + masksToSelect + evaluations === 0) return [...lines, 'Nothing is left to do.'].join('\n')
  const { calibrate, select, evaluate, total } = estimate.seconds
  const time = (seconds: number) => formatDuration(seconds * 1000)
  lines.push(
    `To do: ${counted(calibrations, 'calibration')} (${time(calibrate)}), ${counted(masksToSelect, 'selection')} ` +
      `(${time(select)}), ${counted(evaluations, 'evaluation')} (${time(evaluate)}).`,
    `Estimate: ${time(total)}, ${formatBytes(estimate.memoryBytes)} of memory, ` +
      `${formatBytes(estimate.diskBytes)} more in ${settings.outDir}.`,
  )
  if (estimate.guessed.length > 0) {
    lines.push(
      `The time of selection is a guess for methods that never ran here: ${estimate.guessed.join(', ')}.`,
    )
  }
  if (estimate.memoryBytes > totalmem()) {
    lines.push(
      `Warning: this machine has ${formatBytes(totalmem())} of memory, of which ${formatBytes(freemem())} are free.`,
    )
  }
  return lines.join('\n')
}

/** Returns the plan as JSON for programs. */
export function planForPrograms({
  runs,
  masks,
  masksToSelect,
  calibrations,
  evaluations,
  estimate,
}: LabPlan) {
  return {
    masks,
    to_do: { calibrations, selections: masksToSelect, evaluations },
    estimate: {
      seconds: estimate.seconds,
      memory_bytes: estimate.memoryBytes,
      disk_bytes: estimate.diskBytes,
      guessed: estimate.guessed,
    },
    runs: runs.map(({ purpose, variant, pattern, samples, stages }) => ({
      purpose,
      method: variant.method,
      scope: variant.scope,
      pattern,
      samples,
      masks: stages.length,
    })),
  }
}

const LEGEND =
  'Mean (A-) and largest (M-) backward transfer (BWT: positive means forgetting) and perplexity (PPL).'

/** Describes the outcome of a run for people. */
export function describeOutcome(
  { results, done, seconds }: LabOutcome,
  outDir: string,
  files: readonly string[],
  session: Session,
): string {
  const main = results.runs.filter(({ purpose, summary }) => purpose === 'main' && summary !== null)
  const figure = (value: number | null | undefined) => (value == null ? '-' : formatPerplexity(value))
  const change = (run: LabRun, value: number | null | undefined) => {
    if (hasWeightStasis(run)) return 'WS'
    if (value == null) return '-'
    return Math.abs(value) < 1000 ? value.toFixed(3) : value.toExponential(2)
  }
  const table = session.table<LabRun>(
    [
      { title: 'METHOD', value: methodLabel },
      { title: 'PATTERN', value: ({ pattern }) => pattern },
      { title: 'A-BWT', value: (run) => change(run, run.summary?.aBwt), align: 'right' },
      { title: 'M-BWT', value: (run) => change(run, run.summary?.mBwt), align: 'right' },
      { title: 'A-PPL', value: ({ summary }) => figure(summary?.aPpl), align: 'right' },
      { title: 'M-PPL', value: ({ summary }) => figure(summary?.mPpl), align: 'right' },
    ],
    main,
  )
  const work =
    done.calibrated + done.selected + done.evaluated === 0
      ? 'There was nothing new to do.'
      : `Done in ${formatDuration(seconds * 1000)}: ${counted(done.calibrated, 'calibration')}, ` +
        `${counted(done.selected, 'selection')}, ${counted(done.evaluated, 'evaluation')}.`
  const report = files.find((file) => file.endsWith('.html'))
  return [
    main.length > 0 ? `${table}\n${LEGEND}\n` : '',
    work,
    `Results: ${join(outDir, 'results.json')}`,
    report ? `Report: ${join(outDir, report)}` : '',
  ]
    .filter((part) => part !== '')
    .join('\n')
}

/** Returns the outcome of a run as JSON for programs. */
export function outcomeForPrograms(
  { results, done, seconds }: LabOutcome,
  outDir: string,
  files: readonly string[],
) {
  return {
    results: join(outDir, 'results.json'),
    files: files.map((file) => join(outDir, file)),
    done,
    seconds,
    incomplete: results.incomplete,
    runs: results.runs.map(({ purpose, method, scope, pattern, samples, summary }) => ({
      purpose,
      method,
      scope,
      pattern,
      samples,
      summary,
    })),
  }
}
