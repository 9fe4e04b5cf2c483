import { expect, test } from 'vitest'
import { OtelVariableError, readOtelSettings } from '../../../shared/src/telemetry/otel-settings.ts'

const DEFAULTS = { sampler: 'always_on', resource: { 'service.name': 'copal-node' } } as const
const ENDPOINT = 'http://collector:4318'

test('without variables nothing is sent', () => {
  expect(readOtelSettings({}, DEFAULTS)).toEqual({
    traces: null,
    metrics: null,
    logs: null,
    sampler: { name: 'always_on', ratio: 1 },
    resource: { 'service.name': 'copal-node' },
    metricIntervalMs: 60_000,
  })
})

test('one endpoint takes every signal below its path, with the headers', () => {
  const settings = readOtelSettings(
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: `${ENDPOINT}/otlp/`,
      OTEL_EXPORTER_OTLP_HEADERS: 'authorization=Basic%20YQ==, x=1',
    },
    DEFAULTS,
  )
  const headers = { authorization: 'Basic YQ==', x: '1' }
  expect(settings.traces).toEqual({ url: `${ENDPOINT}/otlp/v1/traces`, headers })
  expect(settings.metrics).toEqual({ url: `${ENDPOINT}/otlp/v1/metrics`, headers })
  expect(settings.logs).toEqual({ url: `${ENDPOINT}/otlp/v1/logs`, headers })
})

test('the parameters of an endpoint stay behind the path of a signal', () => {
  const settings = readOtelSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: `${ENDPOINT}/otlp?key=1` }, DEFAULTS)
  expect(settings.traces?.url).toBe(`${ENDPOINT}/otlp/v1/traces?key=1`)
})

test('an endpoint of one signal is used as it is, and a signal can be turned off', () => {
  const settings = readOtelSettings(
    {
      OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT,
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: 'https://prometheus/api/v1/otlp/v1/metrics',
      OTEL_LOGS_EXPORTER: 'none',
      OTEL_METRICS_EXPORTER: '',
    },
    DEFAULTS,
  )
  expect(settings.metrics?.url).toBe('https://prometheus/api/v1/otlp/v1/metrics')
  expect(settings.logs).toBeNull()
  expect(settings.traces?.url).toBe(`${ENDPOINT}/v1/traces`)
  expect(
    readOtelSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT, OTEL_SDK_DISABLED: 'true' }, DEFAULTS).traces,
  ).toBeNull()
  expect(
    readOtelSettings({ OTEL_EXPORTER_OTLP_ENDPOINT: ENDPOINT, OTEL_METRICS_EXPORTER: 'prometheus' }, DEFAULTS)
      .metrics,
  ).toBeNull()
})

test('the sampler and the resource are read', () => {
  const settings = readOtelSettings(
    {
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
      OTEL_SERVICE_NAME: 'nodes',
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test,service.name=other',
    },
    DEFAULTS,
  )
  expect(settings.sampler).toEqual({ name: 'parentbased_traceidratio', ratio: 0.25 })
  expect(settings.resource).toEqual({ 'service.name': 'nodes', 'deployment.environment.name': 'test' })
})

test.each([
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
  ['OTEL_EXPORTER_OTLP_HEADERS', 'a'],
  ['OTEL_EXPORTER_OTLP_HEADERS', 'a=%'],
  ['OTEL_TRACES_EXPORTER', 'zipkin'],
  ['OTEL_TRACES_SAMPLER', 'sometimes'],
  ['OTEL_TRACES_SAMPLER_ARG', '2'],
  ['OTEL_METRIC_EXPORT_INTERVAL', '1s'],
])('%s=%s is refused by name', (variable, value) => {
  const read = () => readOtelSettings({ [variable]: value }, DEFAULTS)
  expect(read).toThrow(OtelVariableError)
  expect(read).toThrow(expect.objectContaining({ variable }))
})

test.each([
  ['OTEL_EXPORTER_OTLP_HEADERS', 'authorization=Bearer%20a-secret%0A'],
  ['OTEL_EXPORTER_OTLP_HEADERS', 'authorization=a-secret%C3%BC'],
  ['OTEL_EXPORTER_OTLP_HEADERS', 'a name=a-secret'],
  ['OTEL_EXPORTER_OTLP_ENDPOINT', 'http://user:a-secret@collector:4318'],
])('%s=%s is refused without its secret, which fetch would show', (variable, value) => {
  const read = () => readOtelSettings({ [variable]: value }, DEFAULTS)
  expect(read).toThrow(OtelVariableError)
  expect(read).not.toThrow(/a-secret/)
})
