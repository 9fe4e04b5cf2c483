import { setTimeout as sleep } from 'node:timers/promises'
import { FORMS } from './engine-contender.ts'
import type { StreamsLoad } from './streams-load.ts'
import { GREEDY } from '@copal/gpu-node/serving/contract/greedy.ts'
import { comparePairs, measureSpeed, runPairs, type Speed } from '../measurement/paired-rounds.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { createEngine } from '@copal/gpu-node/serving/engine/engine.ts'

/** Tokens of a scored text: a window of 256 and as many before it. */
const TEXT_TOKENS = 512

/** Measurements of one round. */
interface Round extends Speed {
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
export async function benchScoring(options: StreamsLoad & { scoringShare: number }): Promise<string[]> {
  const { model, maskPath, form, streams, rounds, roundMs, scoringShare } = options
  const [precision, headPrecision] = FORMS[form]
  const backend = createSparseBackend({ addon: loadNative(), precision, headPrecision })
  let generated = 0
  let scored = 0
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    policy: { scoringShare, maxRunning: streams, draftTokens: 0 },
    observer: {
      sampled: ({ tokens }) => void (generated += tokens),
      step: ({ scoreTokens }) => (scored += scoreTokens),
    },
  })
  const dense = await backend.load({ model, version: 0, maskPath: null, priority: 'serving' })
  const active = await backend.load({ model, version: 1, maskPath, priority: 'serving' })
  engine.setActive(active)

  let isRunning = true
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
    const scoring = withScoring ? new AbortController() : undefined
    const texts = scoring && scoreTexts(scoring)
    textMs = []
    const scoredBefore = scored
    const speed = await measureSpeed(() => generated, roundMs)
    const round = { ...speed, scoredPerS: (scored - scoredBefore) / speed.seconds, textMs }
    scoring?.abort()
    await texts
    return round
  }

  const streaming = Promise.all(Array.from({ length: streams }, (_, index) => stream(index)))
  await sleep(roundMs / 2)
  const pairs = await runPairs(rounds, run)
  isRunning = false
  await streaming
  engine.close()
  await Promise.all([backend.release(active), backend.release(dense)])

  const durations = pairs.with.flatMap((round) => round.textMs)
  const names = {
    without: `${streams} streams without scoring`,
    with: `with a share of ${scoringShare}`,
    noun: 'scoring',
  }
  return [
    ...comparePairs(pairs, names, 2),
    line('scored, context among it', formatSpread(spread(pairs.with.map((r) => r.scoredPerS)), 'tok/s')),
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
