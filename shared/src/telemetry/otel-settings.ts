import type { OtlpResource } from './otlp-json.ts'
import type { OtlpTarget } from './otlp-send.ts'

/** Samplers by their standard names. */
export const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const
/** The name of a sampler. */
export type SamplerName = (typeof SAMPLERS)[number]

/** Signals by their names in paths, with their names in variables. */
const SIGNALS = { traces: 'TRACES', metrics: 'METRICS', logs: 'LOGS' } as const

/** The standard environment variables of OpenTelemetry that copal reads. */
export interface OtelVariables {
  OTEL_SDK_DISABLED?: string | undefined
  OTEL_SERVICE_NAME?: string | undefined
  OTEL_RESOURCE_ATTRIBUTES?: string | undefined
  OTEL_EXPORTER_OTLP_ENDPOINT?: string | undefined
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT?: string | undefined
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT?: string | undefined
  OTEL_EXPORTER_OTLP_LOGS_ENDPOINT?: string | undefined
  OTEL_EXPORTER_OTLP_HEADERS?: string | undefined
  OTEL_TRACES_EXPORTER?: string | undefined
  OTEL_METRICS_EXPORTER?: string | undefined
  OTEL_LOGS_EXPORTER?: string | undefined
  OTEL_TRACES_SAMPLER?: string | undefined
  OTEL_TRACES_SAMPLER_ARG?: string | undefined
  OTEL_METRIC_EXPORT_INTERVAL?: string | undefined
}

/** Where each signal is sent, and which requests are traced. A signal without a target is not produced. */
export interface OtelSettings {
  readonly traces: OtlpTarget | null
  readonly metrics: OtlpTarget | null
  readonly logs: OtlpTarget | null
  readonly sampler: { readonly name: SamplerName; readonly ratio: number }
  readonly resource: OtlpResource
  /** Time between two exports of metrics. */
  readonly metricIntervalMs: number
}

/** Thrown for a variable that cannot be used. */
export class OtelVariableError extends Error {
  readonly variable: string

  constructor(variable: string, message: string) {
    super(message)
    this.variable = variable
  }
}

/**
 * Reads the standard variables; an empty one counts as absent.
 *
 * @param defaults.resource attributes of the process, which variables may replace
 * @throws OtelVariableError that names the variable and what is expected
 */
export function readOtelSettings(
  variables: OtelVariables,
  defaults: { sampler: SamplerName; resource: OtlpResource },
): OtelSettings {
  const isDisabled = variables.OTEL_SDK_DISABLED?.toLowerCase() === 'true'
  const headers = readHeaders(variables.OTEL_EXPORTER_OTLP_HEADERS)
  const target = (signal: keyof typeof SIGNALS): OtlpTarget | null => {
    const upper = SIGNALS[signal]
    const exporter = variables[`OTEL_${upper}_EXPORTER`] || 'otlp'
    if (exporter !== 'otlp' && exporter !== 'none' && !(exporter === 'prometheus' && signal === 'metrics'))
      throw new OtelVariableError(`OTEL_${upper}_EXPORTER`, "'otlp' or 'none' is expected")
    if (isDisabled || exporter !== 'otlp') return null
    const name = `OTEL_EXPORTER_OTLP_${upper}_ENDPOINT` as const
    const own = readUrl(name, variables[name])
    if (own !== undefined) return { url: own, headers }
    const base = readUrl('OTEL_EXPORTER_OTLP_ENDPOINT', variables.OTEL_EXPORTER_OTLP_ENDPOINT)
    return base === undefined ? null : { url: signalUrl(base, signal), headers }
  }
  const { OTEL_SERVICE_NAME: serviceName } = variables
  return {
    traces: target('traces'),
    metrics: target('metrics'),
    logs: target('logs'),
    sampler: readSampler(variables, defaults.sampler),
    resource: {
      ...defaults.resource,
      ...readPairs('OTEL_RESOURCE_ATTRIBUTES', variables.OTEL_RESOURCE_ATTRIBUTES),
      ...(serviceName ? { 'service.name': serviceName } : {}),
    },
    metricIntervalMs: readInterval(variables.OTEL_METRIC_EXPORT_INTERVAL),
  }
}

/** Returns the address of a signal below that of a collector, whose parameters stay: some services take their key as one. */
function signalUrl(base: string, signal: string): string {
  const url = new URL(base)
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/${signal}`
  return url.href
}

function readSampler(variables: OtelVariables, defaultName: SamplerName): OtelSettings['sampler'] {
  const { OTEL_TRACES_SAMPLER: given, OTEL_TRACES_SAMPLER_ARG: argument } = variables
  const name = given ? SAMPLERS.find((known) => known === given) : defaultName
  if (name === undefined)
    throw new OtelVariableError('OTEL_TRACES_SAMPLER', `one of ${SAMPLERS.join(', ')} is expected`)
  const ratio = argument ? Number(argument) : 1
  if (!(ratio >= 0 && ratio <= 1))
    throw new OtelVariableError('OTEL_TRACES_SAMPLER_ARG', 'a share from 0 to 1 is expected')
  return { name, ratio }
}

function readUrl(variable: string, value: string | undefined): string | undefined {
  if (!value) return undefined
  if (
    URL.canParse(value) &&
    /^https?:/.test(value) &&
    new URL(value).username === '' &&
    new URL(value).password === ''
  )
    return value
  throw new OtelVariableError(
    variable,
    'an address like http://127.0.0.1:4318 is expected, without a user name: headers are for that',
  )
}

/** Reads headers. Their values are secrets: an error must not contain one, as that of `fetch` does. */
function readHeaders(value: string | undefined): Record<string, string> {
  const variable = 'OTEL_EXPORTER_OTLP_HEADERS'
  const headers = readPairs(variable, value)
  for (const [name, header] of Object.entries(headers))
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name) || !/^[\t\x20-\x7e]*$/.test(header))
      throw new OtelVariableError(
        variable,
        'names and values of HTTP headers, in ASCII and without line breaks, are expected',
      )
  return headers
}

/** Reads `key=value,key=value`, with values percent-encoded as in W3C Baggage. */
function readPairs(variable: string, value: string | undefined): Record<string, string> {
  const pairs = (value ?? '').split(',').filter((part) => part.trim() !== '')
  return Object.fromEntries(
    pairs.map((part) => {
      const [key = '', ...rest] = part.split('=')
      if (key.trim() === '' || rest.length === 0)
        throw new OtelVariableError(variable, "'name=value', separated by commas, is expected")
      return [key.trim(), decode(variable, rest.join('=').trim())]
    }),
  )
}

function decode(variable: string, value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    throw new OtelVariableError(
      variable,
      'values that are percent-encoded, if they have a % sign, are expected',
    )
  }
}

function readInterval(value: string | undefined): number {
  const intervalMs = value ? Number(value) : 60_000
  if (Number.isInteger(intervalMs) && intervalMs >= 100 && intervalMs <= 86_400_000) return intervalMs
  throw new OtelVariableError('OTEL_METRIC_EXPORT_INTERVAL', 'milliseconds from 100 to 86400000 are expected')
}
