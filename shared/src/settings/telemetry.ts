import type { Setting } from './setting.ts'

/** Settings of what is exported to a collector, as OpenTelemetry names them. */
export const TELEMETRY_SETTINGS = {
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: 'nothing is exported',
    meaning:
      'The OTLP/HTTP collector for spans, metrics and logs, like `http://127.0.0.1:4318` ([telemetry](telemetry.md)). `/metrics` is always there.',
  },
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: '`/v1/traces` of `OTEL_EXPORTER_OTLP_ENDPOINT`',
    meaning: 'The whole address for spans alone.',
  },
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: '`/v1/metrics` of `OTEL_EXPORTER_OTLP_ENDPOINT`',
    meaning: 'The whole address for metrics alone.',
  },
  OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: {
    readers: ['gateway', 'node'],
    unset: '`/v1/logs` of `OTEL_EXPORTER_OTLP_ENDPOINT`',
    meaning: 'The whole address for log lines alone.',
  },
  OTEL_EXPORTER_OTLP_HEADERS: {
    readers: ['gateway', 'node'],
    secret: true,
    unset: 'none',
    meaning: 'Headers for the collector, `name=value` separated by commas, values percent-encoded.',
  },
  OTEL_TRACES_EXPORTER: {
    readers: ['gateway', 'node'],
    default: 'otlp',
    meaning: '`none`: no spans are made.',
  },
  OTEL_METRICS_EXPORTER: {
    readers: ['gateway', 'node'],
    default: 'otlp',
    meaning: '`none` or `prometheus`: metrics are only at `/metrics`.',
  },
  OTEL_LOGS_EXPORTER: {
    readers: ['gateway', 'node'],
    default: 'otlp',
    meaning: '`none`: log lines are only written.',
  },
  OTEL_METRIC_EXPORT_INTERVAL: {
    readers: ['node'],
    default: 60_000,
    meaning: 'Milliseconds between two exports of metrics. The gateway exports them once a minute.',
  },
  OTEL_TRACES_SAMPLER: {
    readers: ['gateway', 'node'],
    unset: '`always_on` on the gateway, `parentbased_always_on` on nodes',
    meaning:
      'Which requests are traced: `always_on`, `always_off`, `traceidratio`, or these with `parentbased_` in front ([sampling](telemetry.md#sampling)).',
  },
  OTEL_TRACES_SAMPLER_ARG: {
    readers: ['gateway', 'node'],
    default: 1,
    meaning: 'The share that `traceidratio` traces, 0 to 1.',
  },
  OTEL_SERVICE_NAME: {
    readers: ['gateway', 'node'],
    unset: '`copal-gateway`, `copal-node`',
    meaning: '`service.name` of what is exported.',
  },
  OTEL_RESOURCE_ATTRIBUTES: {
    readers: ['gateway', 'node'],
    unset: 'none',
    meaning: 'Further attributes of what is exported, `name=value` separated by commas.',
  },
  OTEL_SDK_DISABLED: {
    readers: ['gateway', 'node'],
    default: 'false',
    meaning: '`true`: nothing is exported.',
  },
} as const satisfies Record<string, Setting>
