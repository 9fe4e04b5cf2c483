import { expect, test } from 'vitest'
import { createMeter } from '../../../shared/src/telemetry/instruments.ts'
import { NODE_METRICS } from '../../../shared/src/telemetry/node-metric-table.ts'
import { encodeMetrics } from '../../../shared/src/telemetry/otlp-metrics.ts'

test('metrics are encoded as OTLP with the times, cumulative sums and exemplars', () => {
  const meter = createMeter(() => 1_500.25)
  meter.counter(NODE_METRICS.requests).add(2, 'stop', '')
  meter.histogram(NODE_METRICS.queueDuration, [1]).record(3, { traceId: 'aa', spanId: 'bb' })
  meter.observe(NODE_METRICS.kvTokens, () => [[0.5]])
  meter.counter(NODE_METRICS.swaps)
  const times = { startTimeUnixNano: '1000000000', timeUnixNano: '2000500000' }
  expect(encodeMetrics(meter.collect(), { 'service.name': 'x' }, { startMs: 1_000, nowMs: 2_000.5 })).toEqual(
    {
      resourceMetrics: [
        {
          resource: { attributes: [{ key: 'service.name', value: { stringValue: 'x' } }] },
          scopeMetrics: [
            {
              scope: { name: 'copal' },
              metrics: [
                {
                  name: 'copal.node.requests',
                  description: NODE_METRICS.requests.meaning,
                  unit: '{request}',
                  sum: {
                    aggregationTemporality: 2,
                    isMonotonic: true,
                    dataPoints: [
                      {
                        attributes: [{ key: 'outcome', value: { stringValue: 'stop' } }],
                        ...times,
                        asDouble: 2,
                      },
                    ],
                  },
                },
                {
                  name: 'copal.node.queue.duration',
                  description: NODE_METRICS.queueDuration.meaning,
                  unit: 's',
                  histogram: {
                    aggregationTemporality: 2,
                    dataPoints: [
                      {
                        attributes: [],
                        ...times,
                        count: '1',
                        sum: 3,
                        bucketCounts: ['0', '1'],
                        explicitBounds: [1],
                        exemplars: [{ asDouble: 3, timeUnixNano: '1500250000', traceId: 'aa', spanId: 'bb' }],
                      },
                    ],
                  },
                },
                {
                  name: 'copal.node.kv_tokens',
                  description: NODE_METRICS.kvTokens.meaning,
                  unit: '{token}',
                  gauge: { dataPoints: [{ attributes: [], ...times, asDouble: 0.5 }] },
                },
              ],
            },
          ],
        },
      ],
    },
  )
})
