import { setTimeout as sleep } from 'node:timers/promises'
import { formatSpread, line, spread } from '../measurement/report.ts'
import type { Contender } from './contenders.ts'
import { openLoad, type Load } from './load.ts'
import { usageOf } from './processes.ts'
import { differences, percentile, ratios, turnOf, type Sample } from './sample.ts'

/** After a measurement, so that what was begun (receipts, spans) counts there and not in the next one. */
const SETTLE_MS = 400
/** What compiles just in time is slow at first; times the length of a measurement. */
const WARM_UP = 2

/** One contender in one round. */
interface Measured extends Sample {
  /** Of its processes, an answer; NaN where the platform does not tell. */
  processorMs: number
}

/** The load of one kind on every contender. */
interface Kind {
  name: string
  unit: string
  stream: boolean
}
const KINDS: readonly Kind[] = [
  { name: 'JSON', unit: 'answers/s', stream: false },
  { name: '64-chunk streams', unit: 'streams/s', stream: true },
]

/** How long it is measured, and with what. */
export interface CompareOptions {
  /** Times that everything is measured, all contenders in turn. */
  rounds: number
  /** Of one measurement. */
  seconds: number
  /** Of the load, kept open. */
  connections: number
  /** Characters of the prompt; a few sentences unless given. */
  prompt?: number
}

/**
 * Measures gateways beside their upstream asked directly, everything in turn within each round: what they carry at most,
 * and what they add at half of that.
 *
 * @param direct the upstream itself
 * @param gateways ours first; the others are compared with it
 * @returns whether every request had its whole answer
 */
export async function compare(
  direct: Contender,
  gateways: readonly Contender[],
  options: CompareOptions,
  print: (line: string) => void,
): Promise<boolean> {
  let allAnswered = true
  const failed = (measured: Rounds) => [...measured.values()].flat().some((sample) => sample.failed > 0)
  for (const kind of KINDS) {
    const contenders = [direct, ...gateways]
    const loads = new Map(
      contenders.map((one) => [one, openLoad(one.request(kind.stream, options.prompt), options.connections)]),
    )
    const load = (one: Contender): Load => loads.get(one) ?? never()
    try {
      for (const one of contenders) await load(one).closedLoop(options.seconds * WARM_UP)
      print(`\n${kind.name}, closed loop over ${options.connections} connections`)
      const most = await rounds(contenders, options.rounds, (one) => load(one).closedLoop(options.seconds))
      if (failed(most)) allAnswered = false
      for (const text of reportMost(contenders, most, kind)) print(text)

      print(
        `\n${kind.name} at a fixed rate, half of what each carries: added to the upstream at the same rate, ms`,
      )
      for (const gateway of gateways) {
        const rate = spread(of(most, gateway).map(({ perSecond }) => perSecond)).median / 2
        const measured = await rounds([direct, gateway], options.rounds, (one) =>
          load(one).fixedRate(rate, options.seconds),
        )
        if (failed(measured)) allAnswered = false
        for (const text of reportAdded(gateway, rate, of(measured, direct), of(measured, gateway), kind))
          print(text)
      }
    } finally {
      await Promise.all(contenders.map((one) => load(one).close()))
    }
  }
  return allAnswered
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

function reportMost(contenders: readonly Contender[], most: Rounds, kind: Kind): string[] {
  const perSecond = (one: Contender) => of(most, one).map((sample) => sample.perSecond)
  const [, ours] = contenders
  return contenders.flatMap((one) => {
    const processor = spread(of(most, one).map(({ processorMs }) => processorMs))
    const figures = [
      formatSpread(spread(perSecond(one)), kind.unit, 0),
      formatSpread(processor, 'ms of processor each', 2),
      ...(ours && one !== ours
        ? [`ours carries ${formatSpread(ratios(perSecond(ours), perSecond(one)), '×', 2)}`]
        : []),
    ]
    return [line(one.name, figures.join('; ')), ...failures(of(most, one))]
  })
}

function reportAdded(
  gateway: Contender,
  rate: number,
  direct: readonly Measured[],
  through: readonly Measured[],
  kind: Kind,
): string[] {
  const added = (share: number, times: (sample: Sample) => readonly number[]) =>
    formatSpread(
      differences(
        through.map((sample) => percentile(times(sample), share)),
        direct.map((sample) => percentile(times(sample), share)),
      ),
      '',
      2,
    )
  const whole = ({ wholeMs }: Sample) => wholeMs
  const first = ({ firstByteMs }: Sample) => firstByteMs
  const late = spread([...direct, ...through].map(({ lateMs }) => lateMs)).median
  const processor = formatSpread(spread(through.map(({ processorMs }) => processorMs)), 'ms', 2)
  const told = `${gateway.name}, ${rate.toFixed(0)} ${kind.unit}`
  return [
    ...(kind.stream
      ? [line(`${told}, time to first token`, `p50 ${added(0.5, first)}; p99 ${added(0.99, first)}`)]
      : []),
    line(`${told}, whole answer`, `p50 ${added(0.5, whole)}; p99 ${added(0.99, whole)}`),
    line('', `processor ${processor} each; the load itself was late by ${late.toFixed(1)} ms at p99`),
    ...failures([...direct, ...through]),
  ]
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
