import { encodeLogs, type LogRecord } from '@copal/shared/telemetry/otlp-logs.ts'
import { sendOtlp } from '@copal/shared/telemetry/otlp-send.ts'
import type { OtelSettings } from '@copal/shared/telemetry/otel-settings.ts'

/** Sends log lines to a collector in batches. */
export interface LogExport {
  add(record: LogRecord): void
  /** Sends the waiting lines. */
  shutdown(): Promise<void>
}

/** Batching delay, milliseconds. */
const BATCHING_DELAY_MS = 1_000
/** Most lines that wait; while the collector is slow or away, the oldest are lost. */
const MAX_WAITING = 2_048

/** Creates the export of log lines; null without a collector. A line that cannot be sent is lost, but it is also on stderr. */
export function createLogExport(otel: Pick<OtelSettings, 'logs' | 'resource'>): LogExport | null {
  const { logs: target, resource } = otel
  if (!target) return null
  let waiting: LogRecord[] = []
  let sending: Promise<void> = Promise.resolve()
  let timer: NodeJS.Timeout | undefined

  const send = (): Promise<void> => {
    clearTimeout(timer)
    timer = undefined
    sending = sending.then(async () => {
      if (waiting.length === 0) return
      const records = waiting
      waiting = []
      await sendOtlp(target, encodeLogs(records, resource))
    })
    return sending
  }

  return {
    add(record) {
      waiting.push(record)
      if (waiting.length > MAX_WAITING) waiting.shift()
      timer ??= setTimeout(() => void send(), BATCHING_DELAY_MS).unref()
    },
    shutdown: send,
  }
}
