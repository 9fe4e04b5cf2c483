import { setTimeout as sleep } from 'node:timers/promises'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { Contender } from './contenders.ts'
import { openLoad, type Load } from './load.ts'
import { usageOf } from './processes.ts'
import { percentile } from '../measurement/percentile.ts'
import { differences, ratios, turnOf, type Sample } from './sample.ts'

/** Pause after a measurement, so that its receipts and spans are not counted in the next one. */
const SETTLE_MS = 400
/** Length of the warm-up, in measurements: code that is compiled just in time is slow at first. */
const WARM_UP = 2

/** The measurement of one contender in one round. */
interface Measured extends Sample {
  /** Processor time of its processes per response; NaN where the platform does not tell. */
  processorMs: number
}

/** A kind of request that is measured on every contender. */
interface Kind {
  name: string
  unit: string
  stream: boolean
}
const KINDS: readonly Kind[] = [
  { name: 'JSON', unit: 'responses/s', stream: false },
  { name: '64-chunk streams', unit: 'streams/s', stream: true },
]

/** Options of a comparison. */
export interface CompareOptions {
  /** Number of rounds; each measures all contenders in turn. */
  rounds: number
  /** Duration of one measurement. */
  seconds: number
  /** Open connections of the load. */
  connections: number
  /** Length of the prompt in characters; by default a few sentences. */
  prompt?: number
  /** Requests a second. If it is set, only the latency at this rate is compared, ours with each other's. */
  rate?: number
}

/**
 * Measures the throughput of gateways and of their upstream, the latency that each gateway adds at half of its
 * throughput, and the difference of ours and each other's at the same rate. Every round measures its contenders in turn.
 *
 * @param direct the upstream itself
 * @param gateways ours first; the others are compared with it
 * @returns whether every request had a complete response
 */
export async function compare(
  direct: Contender,
  gateways: readonly Contender[],
  options: CompareOptions,
  print: (line: string) => void,
): Promise<boolean> {
  let isComplete = true
  for (const kind of KINDS) {
    const contenders = [direct, ...gateways]
    const loads = new Map(
      contenders.map((one) => [one, openLoad(one.request(kind.stream, options.prompt), options.connections)]),
    )
    const load = (one: Contender): Load => loads.get(one) ?? never()
    const measure: Comparison['measure'] = async (some, run) => {
      const measured = await rounds(some, options.rounds, (one) => run(load(one), options.seconds))
      if ([...measured.values()].flat().some((sample) => sample.failed > 0)) isComplete = false
      return measured
    }
    const comparison: Comparison = { kind, connections: options.connections, measure, print }
    try {
      for (const one of contenders) await load(one).closedLoop(options.seconds * WARM_UP)
      const halves = options.rate === undefined ? await compareThroughput(comparison, contenders) : undefined
      if (halves) await compareAdded(comparison, direct, gateways, halves)
      const [ours, ...others] = gateways
      // By default half of the throughput of the slower one.
      const rateOf = (other: Contender) =>
        options.rate ?? Math.min(...[ours, other].map((one) => (one && halves?.get(one)) ?? never()))
      if (ours && others.length > 0) await compareBeside(comparison, ours, others, rateOf)
    } finally {
      await Promise.all(contenders.map((one) => load(one).close()))
    }
  }
  return isComplete
}

/** The settings of all comparisons of one kind of request. */
interface Comparison {
  kind: Kind
  connections: number
  /** Measures contenders in turn, as often as there are rounds. */
  measure: (
    contenders: readonly Contender[],
    run: (load: Load, seconds: number) => Promise<Sample>,
  ) => Promise<Rounds>
  print: (line: string) => void
}

/** Compares the throughput of contenders, and returns half of that of each. */
async function compareThroughput(
  { kind, connections, measure, print }: Comparison,
  contenders: readonly Contender[],
): Promise<ReadonlyMap<Contender, number>> {
  print(`\n${kind.name}, closed loop over ${connections} connections`)
  const throughput = await measure(contenders, (load, seconds) => load.closedLoop(seconds))
  for (const text of reportThroughput(contenders, throughput, kind)) print(text)
  return new Map(
    contenders.map((one) => [one, spread(of(throughput, one).map(({ perSecond }) => perSecond)).median / 2]),
  )
}

/** Compares the latency through each gateway with that of the upstream, at half of the gateway's throughput. */
async function compareAdded(
  { kind, measure, print }: Comparison,
  direct: Contender,
  gateways: readonly Contender[],
  halves: ReadonlyMap<Contender, number>,
): Promise<void> {
  print(`\n${kind.name}, latency added to that of the upstream, at half of each gateway's throughput, ms`)
  for (const gateway of gateways) {
    const rate = halves.get(gateway) ?? never()
    const measured = await measure([direct, gateway], (load, seconds) => load.fixedRate(rate, seconds))
    for (const text of reportAdded(gateway, rate, of(measured, direct), of(measured, gateway), kind))
      print(text)
  }
}

/** Compares our latency with that of each other gateway at the same rate. */
async function compareBeside(
  { kind, measure, print }: Comparison,
  ours: Contender,
  others: readonly Contender[],
  rateOf: (other: Contender) => number,
): Promise<void> {
  print(`\n${kind.name}, our latency minus that of the other at the same rate, ms`)
  for (const other of others) {
    const rate = rateOf(other)
    const measured = await measure([ours, other], (load, seconds) => load.fixedRate(rate, seconds))
    for (const text of reportBeside(other, rate, of(measured, ours), of(measured, other), kind)) print(text)
  }
}

type Rounds = ReadonlyMap<Contender, readonly Measured[]>

async function rounds(
  contenders: readonly Contender[],
  count: number,
  run: (contender: Contender) => Promise<Sample>,
): Promise<Rounds> {
  const measured = new Map(contenders.map((one) => [one, [] as Measured[]]))
  for (let round = 0; round < count; round += 1) {
    for (const contender of turnOf(contenders, round)) {
      const before = usageOf(contender.pids)
      const sample = await run(contender)
      await sleep(SETTLE_MS)
      const after = usageOf(contender.pids)
      const usedMs = before && after ? after.processorMs - before.processorMs : Number.NaN
      measured.get(contender)?.push({ ...sample, processorMs: usedMs / sample.count })
    }
  }
  return measured
}

function reportThroughput(contenders: readonly Contender[], throughput: Rounds, kind: Kind): string[] {
  const perSecond = (one: Contender) => of(throughput, one).map((sample) => sample.perSecond)
  const [, ours] = contenders
  return contenders.flatMap((one) => {
    const processor = spread(of(throughput, one).map(({ processorMs }) => processorMs))
    const figures = [
      formatSpread(spread(perSecond(one)), kind.unit, 0),
      formatSpread(processor, 'ms of processor time per response', 2),
      ...(ours && one !== ours
        ? [`our throughput is ${formatSpread(ratios(perSecond(ours), perSecond(one)), '×', 2)}`]
        : []),
    ]
    return [line(one.name, figures.join('; ')), ...failures(of(throughput, one))]
  })
}

function reportAdded(
  gateway: Contender,
  rate: number,
  direct: readonly Measured[],
  through: readonly Measured[],
  kind: Kind,
): string[] {
  const added = longer(through, direct)
  const late = spread([...direct, ...through].map(({ lateMs }) => lateMs)).median
  const processor = formatSpread(spread(through.map(({ processorMs }) => processorMs)), 'ms', 2)
  const label = `${gateway.name}, ${rate.toFixed(0)} ${kind.unit}`
  return [
    ...(kind.stream
      ? [
          line(
            `${label}, time to first token`,
            `p50 ${added(0.5, firstByteOf)}; p99 ${added(0.99, firstByteOf)}`,
          ),
        ]
      : []),
    line(`${label}, whole response`, `p50 ${added(0.5, wholeOf)}; p99 ${added(0.99, wholeOf)}`),
    line(
      '',
      `processor time ${processor} per response; the load generator was ${late.toFixed(1)} ms late at p99`,
    ),
    ...failures([...direct, ...through]),
  ]
}

function reportBeside(
  other: Contender,
  rate: number,
  ours: readonly Measured[],
  theirs: readonly Measured[],
  kind: Kind,
): string[] {
  const added = longer(ours, theirs)
  const processorOf = (samples: readonly Measured[]) => samples.map(({ processorMs }) => processorMs)
  const processor = formatSpread(differences(processorOf(ours), processorOf(theirs)), 'ms', 3)
  const label = `${other.name}, ${rate.toFixed(0)} ${kind.unit}`
  const what = kind.stream ? 'time to first token' : 'whole response'
  const times = kind.stream ? firstByteOf : wholeOf
  return [
    line(`${label}, ${what}`, `p50 ${added(0.5, times)}; p99 ${added(0.99, times)}`),
    line('', `processor time ${processor} per response`),
    ...failures([...ours, ...theirs]),
  ]
}

const wholeOf = ({ wholeMs }: Sample) => wholeMs
const firstByteOf = ({ firstByteMs }: Sample) => firstByteMs

/** Returns a function that formats how much longer the one takes than the other, round by round. */
function longer(one: readonly Measured[], other: readonly Measured[]) {
  return (share: number, times: (sample: Sample) => readonly number[]): string => {
    const percentiles = (samples: readonly Measured[]) =>
      samples.map((sample) => percentile(times(sample), share))
    return formatSpread(differences(percentiles(one), percentiles(other)), '', 2)
  }
}

function failures(samples: readonly Sample[]): string[] {
  const failed = samples.reduce((sum, sample) => sum + sample.failed, 0)
  const first = samples.find(({ failure }) => failure !== undefined)?.failure
  return failed === 0 ? [] : [line('', `${failed} FAILED: ${first}`)]
}

function of(measured: Rounds, contender: Contender): readonly Measured[] {
  return measured.get(contender) ?? never()
}

function never(): never {
  throw new Error('a contender was not measured')
}
