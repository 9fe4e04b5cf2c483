import { encodeLogs, type LogLevel, type LogRecord } from '@copal/shared/telemetry/otlp-logs.ts'
import type { OtlpValue } from '@copal/shared/telemetry/otlp-json.ts'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'
import { sendOtlp } from '@copal/shared/telemetry/otlp-send.ts'

/** The console's methods that write lines. */
export type ConsoleLines = Pick<Console, LogLevel>

/** The lines of an isolate's console, on their way to a collector. */
export interface ConsoleLog {
  /** Sends the lines of an event once its work has ended, and those that were written since the event before. */
  sendAfter(event: { waitUntil(work: Promise<unknown>): void }, work: Promise<unknown>): void
}

const LEVELS = ['info', 'warn', 'error'] as const satisfies LogLevel[]
/** Lines that wait at most; the oldest are lost beyond them. */
const MAX_WAITING = 1_024

/**
 * Has the console write its lines as JSON, one object a line as nodes do, and passes them on to a collector. Everything in
 * the isolate logs by the console, Durable Objects too, so the console itself is changed, once.
 *
 * Arguments of a line are its message, errors, and objects whose values become fields, such as `trace_id`.
 *
 * @param options.json false leaves the lines as they are
 */
export function captureConsole(
  console: ConsoleLines,
  options: { json: boolean; otel: Pick<OtelSettings, 'logs' | 'resource'>; nowMs?: () => number },
): ConsoleLog {
  const { json, otel, nowMs = Date.now } = options
  let waiting: LogRecord[] = []
  if (json || otel.logs) {
    for (const level of LEVELS) {
      const write = console[level].bind(console)
      console[level] = (...parts: unknown[]) => {
        const record = toRecord(nowMs(), level, parts)
        if (otel.logs) {
          waiting.push(record)
          if (waiting.length > MAX_WAITING) waiting.shift()
        }
        if (json) write(toLine(record))
        else write(...parts)
      }
    }
  }

  async function send(): Promise<void> {
    if (!otel.logs || waiting.length === 0) return
    const records = waiting
    waiting = []
    // A line about it would be sent, too.
    await sendOtlp(otel.logs, encodeLogs(records, otel.resource))
  }

  return {
    sendAfter(event, work) {
      if (!otel.logs) return
      // Most events write no line, and `waitUntil` takes longer than the rest of this.
      const sendWaiting = () => {
        if (waiting.length > 0) event.waitUntil(send())
      }
      work.then(sendWaiting, sendWaiting)
    },
  }
}

function toRecord(atMs: number, level: LogLevel, parts: readonly unknown[]): LogRecord {
  const fields: Record<string, OtlpValue> = {}
  const words: string[] = []
  for (const part of parts) {
    if (part instanceof Error) fields['error'] = part.stack ?? String(part)
    else if (isFields(part)) Object.assign(fields, part)
    else words.push(String(part))
  }
  const { trace_id: traceId, span_id: spanId, ...rest } = fields
  const trace = typeof traceId === 'string' && typeof spanId === 'string' ? { traceId, spanId } : undefined
  return { atMs, level, message: words.join(' '), fields: rest, trace }
}

function isFields(part: unknown): part is Record<string, OtlpValue> {
  return (
    typeof part === 'object' &&
    part !== null &&
    Object.values(part).every((value) => ['string', 'number', 'boolean'].includes(typeof value))
  )
}

function toLine({ atMs, level, message, fields, trace }: LogRecord): string {
  const ids = trace ? { trace_id: trace.traceId, span_id: trace.spanId } : {}
  return JSON.stringify({ time: new Date(atMs).toISOString(), level, message, ...fields, ...ids })
}
