import { inspect } from 'node:util'
import type { MeasuredIn } from '@copal/shared/telemetry/instruments.ts'
import type { LogLevel, LogRecord } from '@copal/shared/telemetry/otlp-logs.ts'

/** A value of a log field. Never a secret, never text of a client. */
type LogField = string | number | boolean | null | undefined

/** Writes one line per event. `message` is for people; `fields` are for programs. */
export interface Log {
  info(message: string, fields?: Record<string, LogField>): void
  warn(message: string, fields?: Record<string, LogField>): void
  error(message: string, fields?: Record<string, LogField>): void
}

/** Format of log lines: one JSON object each, or `12:00:00 warn message key=value`. */
export type LogFormat = 'json' | 'plain'

/** Creates a log that passes each line, without its line feed, to `write`, and its parts to `onRecord`. */
export function createLog(options: {
  format: LogFormat
  write: (line: string) => void
  onRecord?: ((record: LogRecord) => void) | undefined
  nowMs?: () => number
}): Log {
  const nowMs = options.nowMs ?? Date.now
  const emit =
    (level: LogLevel) =>
    (message: string, fields: Record<string, LogField> = {}): void => {
      const atMs = nowMs()
      const time = new Date(atMs).toISOString()
      options.onRecord?.(toRecord(atMs, level, message, fields))
      if (options.format === 'json') {
        options.write(JSON.stringify({ time, level, message, ...fields }))
        return
      }
      const pairs = Object.entries(fields)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => ` ${key}=${typeof value === 'string' ? JSON.stringify(value) : String(value)}`)
      options.write(`${time.slice(11, 19)} ${level === 'info' ? '' : `${level} `}${message}${pairs.join('')}`)
    }
  return { info: emit('info'), warn: emit('warn'), error: emit('error') }
}

/** Returns a log whose lines name a trace, as `trace_id` and `span_id`; the same log without one. */
export function logInTrace(log: Log, trace: MeasuredIn): Log {
  if (!trace) return log
  const ids = { trace_id: trace.traceId, span_id: trace.spanId }
  return {
    info: (message, fields) => log.info(message, { ...fields, ...ids }),
    warn: (message, fields) => log.warn(message, { ...fields, ...ids }),
    error: (message, fields) => log.error(message, { ...fields, ...ids }),
  }
}

function toRecord(
  atMs: number,
  level: LogLevel,
  message: string,
  { trace_id: traceId, span_id: spanId, ...rest }: Record<string, LogField>,
): LogRecord {
  const fields = Object.fromEntries(
    Object.entries(rest).flatMap(([name, value]) => (value == null ? [] : [[name, value] as const])),
  )
  const trace = typeof traceId === 'string' && typeof spanId === 'string' ? { traceId, spanId } : undefined
  return { atMs, level, message, fields, trace }
}

/** Describes an error in one line: its message and those of its causes, without stacks. */
export function reasonOf(thrown: unknown): string {
  const parts: string[] = []
  for (let error: unknown = thrown; error !== undefined && parts.length < 4;) {
    const message = error instanceof Error ? error.message || error.name : inspect(error)
    if (message && !parts.some((part) => part.includes(message))) parts.push(message)
    error = error instanceof Error ? error.cause : undefined
  }
  const [first = '', ...causes] = parts.map((part) => part.replaceAll('\n', ' '))
  return causes.reduce(
    (text, cause) => text + (text.endsWith('.') ? ` Cause: ${cause}` : `: ${cause}`),
    first,
  )
}
