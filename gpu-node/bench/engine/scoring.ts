import { setTimeout as sleep } from 'node:timers/promises'
import { FORMS, type Form } from './engine-contender.ts'
import { GREEDY } from '../serving/greedy.ts'
import { formatSpread, line, spread } from '../measurement/report.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { createEngine } from '@copal/gpu-node/serving/engine/engine.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'

/** Tokens of a scored text: a window of 256 and as many before it. */
const TEXT_TOKENS = 512

/** What happened in one round. */
interface Round {
  /** Generated tokens a second, of all streams. */
  tokensPerS: number
  /** Processor time of this process for each generated token, which other processes disturb less than its speed. */
  cpuMsPerToken: number
  /** Scored and context tokens a second. */
  scoredPerS: number
  textMs: number[]
}

/**
 * Measures what scoring costs streams of the sparse engine: rounds without texts, and rounds in which texts always wait,
 * each scored under the mask and under the dense weights. The rounds take turns.
 *
 * @returns lines for people
 * @throws NativeUnavailableError when the addon is not built
 */
export async function benchScoring(options: {
  model: DenseModel
  maskPath: string
  form: Form
  streams: number
  rounds: number
  roundMs: number
  scoringShare: number
}): Promise<string[]> {
  const { model, maskPath, form, streams, rounds, roundMs, scoringShare } = options
  const [precision, headPrecision] = FORMS[form]
  const backend = createSparseBackend({ addon: loadNative(), precision, headPrecision })
  let generated = 0
  let scored = 0
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    policy: { scoringShare, maxRunning: streams },
    observer: {
      token: () => (generated += 1),
      step: ({ scoreTokens }) => (scored += scoreTokens),
    },
  })
  const dense = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  const active = await backend.load({ model, version: 1, maskPath, priority: 'serving' })
  engine.setActive(active)

  let isRunning = true
  let scoring: AbortController | undefined
  let textMs: number[] = []
  const tokensOf = (length: number, seed: number) =>
    Array.from({ length }, (_, i) => (i * 7919 + seed * 31) % model.config.vocabSize)

  async function stream(index: number): Promise<void> {
    for (let round = 0; isRunning; round++) {
      const generation = engine.generate({
        id: `stream-${index}-${round}`,
        prompt: tokensOf(64, index + round),
        maxTokens: 64,
        sampling: { ...GREEDY, temperature: 1, seed: index },
        stops: [],
        restartable: false,
      })
      for await (const event of generation.events) if (event.type === 'finished' || !isRunning) break
    }
  }

  async function scoreTexts({ signal }: AbortController): Promise<void> {
    const first = TEXT_TOKENS / 2
    for (let text = 0; !signal.aborted; text++) {
      const startedMs = performance.now()
      const tokens = tokensOf(TEXT_TOKENS, text)
      for (const weights of [active, dense])
        await engine.score({ weights, tokens, lane: 'drift', first, signal }).catch(() => undefined)
      if (!signal.aborted) textMs.push(performance.now() - startedMs)
    }
  }

  async function run(withScoring: boolean): Promise<Round> {
    scoring = withScoring ? new AbortController() : undefined
    const texts = scoring && scoreTexts(scoring)
    textMs = []
    const [generatedBefore, scoredBefore, startedMs] = [generated, scored, performance.now()]
    const usage = process.cpuUsage()
    await sleep(roundMs)
    const { user, system } = process.cpuUsage(usage)
    const seconds = (performance.now() - startedMs) / 1000
    const result = {
      tokensPerS: (generated - generatedBefore) / seconds,
      cpuMsPerToken: (user + system) / 1000 / (generated - generatedBefore),
      scoredPerS: (scored - scoredBefore) / seconds,
      textMs,
    }
    scoring?.abort()
    await texts
    return result
  }

  const streaming = Promise.all(Array.from({ length: streams }, (_, index) => stream(index)))
  await sleep(roundMs / 2)
  const without: Round[] = []
  const beside: Round[] = []
  for (let round = 0; round < rounds; round++) {
    // The order alternates, so that a machine that slows down favours neither.
    for (const withScoring of round % 2 === 0 ? [false, true] : [true, false])
      (withScoring ? beside : without).push(await run(withScoring))
  }
  isRunning = false
  await streaming
  engine.close()
  await Promise.all([backend.release(active), backend.release(dense)])

  const lost = without.map(({ tokensPerS }, round) => 100 * (1 - beside[round]!.tokensPerS / tokensPerS))
  const cpu = (all: readonly Round[]) => spread(all.map(({ cpuMsPerToken }) => cpuMsPerToken))
  const durations = beside.flatMap((round) => round.textMs)
  return [
    line(
      `${streams} streams without scoring`,
      formatSpread(spread(without.map((r) => r.tokensPerS)), 'tok/s'),
    ),
    line(`with a share of ${scoringShare}`, formatSpread(spread(beside.map((r) => r.tokensPerS)), 'tok/s')),
    line('lost, by pairs of rounds', formatSpread(spread(lost), '%')),
    line('processor time without scoring', formatSpread(cpu(without), 'ms/tok', 2)),
    line('processor time with it', formatSpread(cpu(beside), 'ms/tok', 2)),
    line('scored, context among it', formatSpread(spread(beside.map((r) => r.scoredPerS)), 'tok/s')),
    ...(durations.length > 0
      ? [
          line(
            `a text of ${TEXT_TOKENS} tokens, under both weights`,
            formatSpread(spread(durations), 'ms', 0),
          ),
        ]
      : []),
  ]
}
