import { formatCount } from '@copal/gpu-node/platform/quantities.ts'
import { methodLabel } from '../../results/labels.ts'
import type { LabResults, LabRun, LabStage, TimingMachine } from '../../results/lab-results.ts'
import { numberColumn, paragraph, textColumn, type Block, type Section } from '../document/report-document.ts'
import { arithmeticMean, secondsCell } from '../document/report-cells.ts'

/** Returns the section on the time of calibration, selection and evaluation, and the machine. */
export function costsSection({
  calibration,
  runs,
  settings,
  timedOn = [null],
}: LabResults): Section | undefined {
  const blocks: Block[] = []
  const isDense = settings.propagation === 'dense'
  // Pruned propagation calibrates for each mask, so the times of earlier dense calibrations are not its cost.
  if (isDense && calibration.length > 0) {
    blocks.push({
      kind: 'table',
      caption: 'Calibration: one pass over the dense model, whatever the methods and patterns',
      columns: [
        textColumn('Domain'),
        ...['samples', 'tokens', 'time', 'tokens/s'].map((title) => numberColumn(title)),
      ],
      rows: calibration.map(({ domain, samples, seconds, tokens, tokensPerSecond }) => [
        domain,
        String(samples),
        formatCount(tokens),
        secondsCell(seconds),
        tokensPerSecond.toFixed(0),
      ]),
    })
  }
  const timed = runs.filter(({ purpose, stages }) => purpose === 'main' && stages.length > 0)
  if (timed.length > 0) {
    blocks.push({
      kind: 'table',
      caption: isDense
        ? 'Selection and evaluation'
        : `Selection, with the calibration that ${settings.propagation} propagation makes for a mask, and evaluation`,
      columns: [
        textColumn('Method'),
        textColumn('Pattern'),
        ...['masks', 'select, mean', 'select, all', 'evaluate, all'].map((title) => numberColumn(title)),
      ],
      rows: timed.map(costRow),
    })
  }
  if (blocks.length === 0) return undefined
  return {
    title: 'Costs',
    blocks: [
      paragraph(`Wall-clock time when it was measured, on ${timedOn.map(machineLabel).join('; on ')}.`),
      ...blocks,
    ],
  }
}

function machineLabel(ranOn: TimingMachine | null): string {
  return ranOn ? `${ranOn.threads} threads of ${ranOn.cpu}` : 'a machine that was not recorded'
}

function costRow({ method, scope, pattern, stages }: LabRun): string[] {
  const all = (seconds: (stage: LabStage) => number): number =>
    stages.reduce((sum, stage) => sum + seconds(stage), 0)
  return [
    methodLabel({ method, scope }),
    pattern,
    String(stages.length),
    secondsCell(arithmeticMean(stages.map((stage) => stage.seconds.select))),
    secondsCell(all((stage) => stage.seconds.select)),
    secondsCell(all((stage) => stage.seconds.evaluate)),
  ]
}
