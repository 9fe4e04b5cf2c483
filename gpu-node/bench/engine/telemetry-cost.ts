import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { readOtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { createEngine } from '@copal/gpu-node/serving/engine/engine.ts'
import type { EngineObserver } from '@copal/gpu-node/serving/engine/engine-observer.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { startCallTelemetry } from '@copal/gpu-node/serving/telemetry/call-telemetry.ts'
import { createNodeTelemetry } from '@copal/gpu-node/serving/telemetry/node-telemetry.ts'
import { createNodeTracing } from '@copal/gpu-node/serving/telemetry/node-tracing.ts'
import { FORMS } from './engine-contender.ts'
import type { StreamsLoad } from './streams-load.ts'
import { GREEDY } from '@copal/gpu-node/serving/contract/greedy.ts'
import { comparePairs, measureSpeed, runPairs, type Speed } from '../measurement/paired-rounds.ts'

/** Tokens of a generation; short ones have more spans a token. */
const TOKENS = 64

/**
 * Measures what all telemetry of a node costs its streams: the observer of the engine, a trace of every request with its
 * phases, exemplars, and pushes of spans and metrics to a collector in this process. Rounds with it and
 * without it take turns on one engine.
 *
 * @param pushMs time between two pushes of metrics
 * @returns lines for people
 * @throws NativeUnavailableError when the addon is not built
 */
export async function benchTelemetry(load: StreamsLoad, pushMs: number): Promise<string[]> {
  const { model, maskPath, form, streams, rounds, roundMs } = load
  const collector = createServer((request, response) => {
    request
      .resume()
      .on('end', () => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
  })
  await once(collector.listen(0, '127.0.0.1'), 'listening')
  const { port } = collector.address() as AddressInfo
  const otel = readOtelSettings(
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_METRIC_EXPORT_INTERVAL: String(pushMs),
    },
    { sampler: 'always_on', resource: { 'service.name': 'copal-bench' } },
  )
  const [precision, headPrecision] = FORMS[form]
  const backend = createSparseBackend({ addon: loadNative(), precision, headPrecision })
  let generated = 0
  let telemetry: ReturnType<typeof createNodeTelemetry> | undefined
  const observer: EngineObserver = {
    step: (step) => telemetry?.metrics.observer.step?.(step),
    sampled(sampled) {
      generated += sampled.tokens
      telemetry?.metrics.observer.sampled?.(sampled)
    },
    ended: (outcome) => telemetry?.metrics.observer.ended?.(outcome),
  }
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    policy: { maxRunning: streams, draftTokens: 0 },
    observer,
  })
  const weights = await backend.load({ model, version: 1, maskPath, priority: 'serving' })
  engine.setActive(weights)

  let isRunning = true
  async function stream(index: number): Promise<void> {
    for (let round = 0; isRunning; round++) {
      const id = `stream-${index}-${round}`
      const traced = { route: '/rpc/completions', requestId: id, domain: 'default', model: model.id }
      const observed = telemetry && startCallTelemetry(telemetry, new Headers(), traced)
      const generation = engine.generate({
        id,
        prompt: Array.from(
          { length: TOKENS },
          (_, i) => ((i + round) * 7919 + index * 31) % model.config.vocabSize,
        ),
        maxTokens: TOKENS,
        sampling: { ...GREEDY, temperature: 1, seed: index },
        stops: [],
        restartable: false,
      })
      for await (const event of generation.events) if (event.type === 'finished' || !isRunning) break
      const outcome = await generation.outcome
      observed?.ended(outcome, 1)
    }
  }

  async function run(isOn: boolean): Promise<Speed> {
    telemetry = isOn
      ? createNodeTelemetry({ model: model.id, otel, tracing: createNodeTracing({ otel }) })
      : undefined
    const speed = await measureSpeed(() => generated, roundMs)
    await telemetry?.shutdown()
    return speed
  }

  const streaming = Promise.all(Array.from({ length: streams }, (_, index) => stream(index)))
  await sleep(roundMs / 2)
  const pairs = await runPairs(rounds, run)
  isRunning = false
  await streaming
  engine.close()
  await backend.release(weights)
  collector.close()

  const names = {
    without: `${streams} streams without telemetry`,
    with: 'with all of it',
    noun: 'telemetry',
  }
  return comparePairs(pairs, names, 3)
}
