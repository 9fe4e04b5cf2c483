import { otlpAttributes, otlpResource, unixNano, type OtlpResource, type OtlpValue } from './otlp-json.ts'

/** A level of a log line. */
export type LogLevel = 'info' | 'warn' | 'error'

/** A log line. It has no text of a client. */
export interface LogRecord {
  /** Unix milliseconds. */
  readonly atMs: number
  readonly level: LogLevel
  readonly message: string
  readonly fields: Readonly<Record<string, OtlpValue>>
  /** The sampled trace that it belongs to. */
  readonly trace?: { readonly traceId: string; readonly spanId: string } | undefined
}

/** OTLP's numbers of severities. */
const SEVERITIES: Readonly<Record<LogLevel, number>> = { info: 9, warn: 13, error: 17 }

/** Encodes log lines for OTLP over HTTP in JSON. */
export function encodeLogs(records: readonly LogRecord[], resource: OtlpResource): object {
  const logRecords = records.map(({ atMs, level, message, fields, trace }) => ({
    timeUnixNano: unixNano(atMs),
    observedTimeUnixNano: unixNano(atMs),
    severityNumber: SEVERITIES[level],
    severityText: level.toUpperCase(),
    body: { stringValue: message },
    attributes: otlpAttributes(Object.entries(fields)),
    ...(trace ? { traceId: trace.traceId, spanId: trace.spanId, flags: 1 } : {}),
  }))
  return {
    resourceLogs: [
      { resource: otlpResource(resource), scopeLogs: [{ scope: { name: 'copal' }, logRecords }] },
    ],
  }
}
