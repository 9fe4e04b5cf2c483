import { setTimeout as sleep } from 'node:timers/promises'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import type { Contender, GatewayContender } from './contenders.ts'
import { openLoad } from './load.ts'
import { usageOf } from './processes.ts'
import { percentile } from '../measurement/percentile.ts'
import { differences, turnOf } from './sample.ts'

/** Pause after a measurement, so that its queued samples are stored before the next one. */
const SETTLE_MS = 2_000
/** Texts of a request of the stream of samples. */
const PROMPTS = 8
/** Measurements of memory in that stream. */
const PARTS = 6

/** Options of {@link compareSampling}. */
export interface SamplingOptions {
  rounds: number
  seconds: number
  connections: number
  /** Samples per second of the stream after the comparison. */
  samplesPerSecond: number
}

/**
 * Measures what sampling adds to a response, with a named domain and with one that is to be found, in turn at one rate; then
 * the memory of the gateway while samples are offered at a fixed rate.
 */
export async function compareSampling(
  gateway: GatewayContender,
  { rounds, seconds, connections, samplesPerSecond }: SamplingOptions,
  print: (line: string) => void,
): Promise<void> {
  const sampled = { sampling: 'always', default_domain: 'bench' } as const
  const named = await gateway.withKey('sampled, domain named', sampled)
  const found = await gateway.withKey('sampled, domain found', { ...sampled, discover_domains: true })
  const contenders = [gateway, named, found]
  const loads = new Map(contenders.map((one) => [one, openLoad(one.request(false), connections)]))
  const medians = new Map(contenders.map((one) => [one, [] as number[]]))
  const load = (one: Contender) => loads.get(one as GatewayContender) ?? never()
  try {
    for (const one of contenders) await load(one).closedLoop(seconds)
    const rate = Math.round((await load(found).closedLoop(seconds)).perSecond / 4)
    await sleep(SETTLE_MS)
    for (let round = 0; round < rounds; round += 1) {
      for (const one of turnOf(contenders, round)) {
        const { wholeMs } = await load(one).fixedRate(rate, seconds)
        medians.get(one)?.push(percentile(wholeMs, 0.5))
        await sleep(SETTLE_MS)
      }
    }
    print(`\nMedian time of a JSON response at ${rate}/s, ms`)
    const of = (one: GatewayContender) => medians.get(one) ?? []
    for (const one of contenders) {
      const added = one === gateway ? '' : `; added ${formatSpread(differences(of(one), of(gateway)), '', 2)}`
      print(
        line(one === gateway ? 'not sampled' : one.name, `${formatSpread(spread(of(one)), '', 2)}${added}`),
      )
    }
    print(line('found instead of named', `added ${formatSpread(differences(of(found), of(named)), '', 2)}`))
  } finally {
    await Promise.all([...loads.values()].map((each) => each.close()))
  }
  await streamSamples(found, { samplesPerSecond, seconds, connections }, print)
}

/** Offers samples at a fixed rate and prints the memory of the gateway, and how many samples wait in the queue. */
async function streamSamples(
  gateway: GatewayContender,
  { samplesPerSecond, seconds, connections }: Omit<SamplingOptions, 'rounds'>,
  print: (line: string) => void,
): Promise<void> {
  const chat = gateway.request(false)
  const prompt = Array.from(
    { length: PROMPTS },
    (_, index) => `Text ${index}: ${'what the gateway adds to a request that it passes on. '.repeat(8)}`,
  )
  const { model } = JSON.parse(chat.body) as { model: string }
  const body = JSON.stringify({ model, prompt, max_tokens: 1, temperature: 0 })
  const stream = openLoad({ ...chat, path: '/v1/completions', body }, connections)
  print(`\n${samplesPerSecond} samples/s offered, whose domains are to be found`)
  const decidedBefore = await gateway.decidedSamples()
  let offered = 0
  try {
    for (let part = 1; part <= PARTS; part += 1) {
      const { count, perSecond, wholeMs, failed, failure } = await stream.fixedRate(
        samplesPerSecond / PROMPTS,
        2 * seconds,
      )
      const mebibytes = (usageOf(gateway.pids)?.residentBytes ?? Number.NaN) / 2 ** 20
      offered += count * PROMPTS
      const waiting = offered - ((await gateway.decidedSamples()) - decidedBefore)
      const figures = `${Math.round(perSecond * PROMPTS)} samples/s, p50 ${percentile(wholeMs, 0.5).toFixed(1)} ms, ${mebibytes.toFixed(0)} MiB, ${waiting} wait in the queue`
      print(
        line(
          `after ${2 * seconds * part} s`,
          failed > 0 ? `${figures}, ${failed} failed: ${failure}` : figures,
        ),
      )
    }
  } finally {
    await stream.close()
  }
}

function never(): never {
  throw new RangeError('unknown contender')
}
