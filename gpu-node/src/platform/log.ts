import { inspect } from 'node:util'

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

/** Creates a log that passes each line, without its line feed, to `write`. */
export function createLog(options: {
  format: LogFormat
  write: (line: string) => void
  nowMs?: () => number
}): Log {
  const nowMs = options.nowMs ?? Date.now
  const emit =
    (level: 'info' | 'warn' | 'error') =>
    (message: string, fields: Record<string, LogField> = {}): void => {
      const time = new Date(nowMs()).toISOString()
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

/** Describes an error in one line: its message and those of its causes, without stacks. */
export function reasonOf(thrown: unknown): string {
  const parts: string[] = []
  for (let error: unknown = thrown; error !== undefined && parts.length < 4;) {
    const message = error instanceof Error ? error.message || error.name : inspect(error)
    if (message && !parts.some((part) => part.includes(message))) parts.push(message)
    error = error instanceof Error ? error.cause : undefined
  }
  return parts.join(': ').replaceAll('\n', ' ')
}
