import { expect, test } from 'vitest'
import { acceptedFormat, formatMetrics } from '../../../shared/src/telemetry/exposition.ts'
import { createMeter, MAX_SERIES } from '../../../shared/src/telemetry/instruments.ts'
import type { Metric } from '../../../shared/src/telemetry/metric.ts'

const COUNTER = {
  name: 'copal.things',
  type: 'counter',
  unit: '{thing}',
  labels: ['kind', 'code'],
  meaning: 'Things, as `kind` and [code](page.md) say.',
} as const satisfies Metric
const HISTOGRAM = {
  name: 'copal.wait',
  type: 'histogram',
  unit: 's',
  labels: ['gen_ai.operation.name'],
  meaning: 'A wait.',
} as const satisfies Metric
const TRACE = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' }

test('a counter has its suffix, escaped labels, no empty ones, and a help text without Markdown', () => {
  const meter = createMeter()
  const counter = meter.counter(COUNTER)
  counter.add(2, 'a"b\\c\nd', '')
  counter.add(3, 'x', 'y')
  counter.add(4, 'x', 'y')
  expect(formatMetrics(meter.collect(), 'prometheus')).toBe(
    '# HELP copal_things_total Things, as kind and code say.\n' +
      '# TYPE copal_things_total counter\n' +
      'copal_things_total{kind="a\\"b\\\\c\\nd"} 2\n' +
      'copal_things_total{kind="x",code="y"} 7\n',
  )
})

test('OpenMetrics has exemplars, names counters without their suffix and ends with EOF', () => {
  const meter = createMeter(() => 1_700_000_000_123)
  meter.counter(COUNTER).add(1, 'x', '')
  const histogram = meter.histogram(HISTOGRAM, [0.5, 1])
  histogram.record(0.5, undefined, 'chat')
  histogram.record(0.7, TRACE, 'chat')
  histogram.record(7, undefined, 'chat')
  const text = formatMetrics(meter.collect(), 'openmetrics')
  expect(text).toBe(
    '# HELP copal_things Things, as kind and code say.\n' +
      '# TYPE copal_things counter\n' +
      'copal_things_total{kind="x"} 1\n' +
      '# HELP copal_wait_seconds A wait.\n' +
      '# TYPE copal_wait_seconds histogram\n' +
      'copal_wait_seconds_bucket{gen_ai_operation_name="chat",le="0.5"} 1\n' +
      'copal_wait_seconds_bucket{gen_ai_operation_name="chat",le="1.0"} 2 ' +
      `# {trace_id="${TRACE.traceId}",span_id="${TRACE.spanId}"} 0.7 1700000000.123\n` +
      'copal_wait_seconds_bucket{gen_ai_operation_name="chat",le="+Inf"} 3\n' +
      'copal_wait_seconds_sum{gen_ai_operation_name="chat"} 8.2\n' +
      'copal_wait_seconds_count{gen_ai_operation_name="chat"} 3\n' +
      '# EOF\n',
  )
  expect(formatMetrics(meter.collect(), 'prometheus')).not.toContain(TRACE.traceId)
})

test('a scraper gets OpenMetrics only if it asks for it', () => {
  const asPrometheus = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1'
  expect(acceptedFormat(asPrometheus)).toBe('openmetrics')
  expect(acceptedFormat('text/plain')).toBe('prometheus')
  expect(acceptedFormat(undefined)).toBe('prometheus')
})

test('values of labels beyond the maximum are one series, and none is lost', () => {
  const meter = createMeter()
  const counter = meter.counter(COUNTER)
  for (let index = 0; index < 3 * MAX_SERIES; index++) counter.add(1, `kind-${index}`, 'z')
  const [family] = meter.collect()
  expect(family?.samples).toHaveLength(MAX_SERIES + 1)
  expect(family?.samples.at(-1)).toEqual({ labels: ['(other)', '(other)'], value: 2 * MAX_SERIES })
})
